use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sandbox::testing::eventually;
use serde_json::{Value, json};

use crate::house::{House, PATIENCE, get, story, text};

#[tokio::test]
async fn revenue_is_per_day_and_currency_of_the_tenant_alone() {
    let house = House::empty().await;
    let running = house.start().await;
    let sales = [
        ("acme", "EUR", 1000, "2026-11-19T23:59:59.999999Z"),
        ("acme", "EUR", 2000, "2026-11-20T00:00:00Z"),
        ("acme", "EUR", 3000, "2026-11-20T23:59:59.999999Z"),
        ("acme", "JPY", 4000, "2026-11-20T12:00:00Z"),
        ("acme", "EUR", 5000, "2026-11-21T00:00:00Z"),
        ("globex", "EUR", 6000, "2026-11-20T12:00:00Z"),
    ];
    for (tenant, currency, total, at) in sales {
        house.send(&story(tenant, currency, total, at).completed).await;
    }
    house.send(&story("globex", "EUR", 1000, "2026-11-20T12:00:00Z").created).await;
    house.wait_for_numbers(sales.len() + 1).await;

    let row = |day: &str, currency: &str, orders: u8, total: u32| json!({"day": day, "currency": currency, "orders": orders, "total": total});
    let all = [
        row("2026-11-19", "EUR", 1, 1000),
        row("2026-11-20", "EUR", 2, 5000),
        row("2026-11-20", "JPY", 1, 4000),
        row("2026-11-21", "EUR", 1, 5000),
    ];
    for (query, rows) in [
        ("", &all[..]),
        ("?from=2026-11-20", &all[1..]),
        ("?to=2026-11-20", &all[..3]),
        ("?from=2026-11-20&to=2026-11-20", &all[1..3]),
        ("?from=2026-11-22", &[]),
        ("?from=0001-01-01&to=9999-12-31", &all[..]),
    ] {
        let answer = get(&running, &format!("/revenue{query}"), "demo-acme").await;
        assert_eq!(answer, (200, json!({"revenue": rows, "next_cursor": null})), "{query}");
    }
    let of_globex = json!({"revenue": [row("2026-11-20", "EUR", 1, 6000)], "next_cursor": null});
    assert_eq!(get(&running, "/revenue", "demo-globex").await, (200, of_globex));
    let funnel = json!({"placed": 0, "created": 2, "open": 1, "completed": 1, "cancelled": 0});
    assert_eq!(get(&running, "/funnel", "demo-globex").await, (200, funnel));
    let funnel = json!({"placed": 0, "created": 5, "open": 0, "completed": 5, "cancelled": 0});
    assert_eq!(get(&running, "/funnel", "demo-acme").await, (200, funnel));
    running.shutdown().await;
}

#[tokio::test]
async fn revenue_is_paged_by_day_and_currency() {
    let house = House::empty().await;
    let running = house.start().await;
    sqlx::query(
        "insert into orders (order_id, tenant_id, version, currency, total, created_at, completed_at)
         select gen_random_uuid(), 'acme', 1, currency, 5, now(), timestamptz '2026-11-01 23:59Z' + day * interval '1 day'
         from generate_series(0, 7) as day, unnest(array['EUR', 'eur', 'ISK', 'USD']) as currency, generate_series(1, 2)",
    )
    .execute(&house.pool)
    .await
    .unwrap();
    let page = async |query: &str| {
        let (status, body) = get(&running, &format!("/revenue?{query}"), "demo-acme").await;
        assert_eq!(status, 200, "{body}");
        (body["revenue"].as_array().unwrap().clone(), body["next_cursor"].clone())
    };
    let (all, end) = page("limit=100").await;
    assert_eq!((all.len(), &end), (32, &Value::Null));
    assert_eq!((&all[0]["day"], &all[0]["orders"]), (&json!("2026-11-01"), &json!(2)));
    let (first, cursor) = page("").await;
    assert_eq!((&first[..], cursor.is_string()), (&all[..20], true));
    for (limit, range, wanted) in
        [(1, "", &all[..]), (7, "", &all), (5, "&from=2026-11-02&to=2026-11-07", &all[4..28])]
    {
        let (mut paged, mut cursor) = page(&format!("limit={limit}{range}")).await;
        while let Some(next) = cursor.as_str() {
            let (rows, further) = page(&format!("limit={limit}{range}&cursor={next}")).await;
            paged.extend(rows);
            cursor = further;
        }
        assert_eq!(paged, wanted, "{limit} {range}");
    }
    running.shutdown().await;
}

#[tokio::test]
async fn a_sum_beyond_64_bits_is_exact() {
    let house = House::empty().await;
    let running = house.start().await;
    sqlx::query(
        "insert into orders (order_id, tenant_id, version, currency, total, created_at, completed_at)
         select gen_random_uuid(), 'acme', 1, 'EUR', 9223372036854775807, now(), '2026-11-20' from generate_series(1, 3)",
    )
    .execute(&house.pool)
    .await
    .unwrap();
    let (status, body) = text(&running, "/revenue", "demo-acme").await;
    assert_eq!(status, 200, "{body}");
    assert!(body.contains("\"total\":27670116110564327421"), "{body}");
    running.shutdown().await;
}

#[tokio::test]
async fn a_request_that_makes_no_sense_is_told_so() {
    let house = House::empty().await;
    let running = house.start().await;
    let empty = json!({"placed": 0, "created": 0, "open": 0, "completed": 0, "cancelled": 0});
    assert_eq!(get(&running, "/funnel", "demo-acme").await, (200, empty));
    let after = |text: &str| format!("/revenue?cursor={}", URL_SAFE_NO_PAD.encode(text));
    let (of_no_day, with_nul) = (after("2026-02-30.EUR"), after("2026-11-20.E\0R"));
    for (path, key, status, named) in [
        ("/revenue?from=20-11-2026", "demo-acme", 400, "from must be a day"),
        ("/revenue?from=", "demo-acme", 400, "from must be a day"),
        ("/revenue?to=2026-02-30", "demo-acme", 400, "to must be a day"),
        ("/revenue?to=2026-11-20T00:00:00Z", "demo-acme", 400, "to must be a day"),
        ("/revenue?to=2026-W47-5", "demo-acme", 400, "to must be a day"),
        ("/revenue?from=2026-11-21&to=2026-11-20", "demo-acme", 400, "from must not be after to"),
        ("/revenue?limit=101", "demo-acme", 400, "limit must be 1 to 100"),
        ("/revenue?cursor=2026-11-20", "demo-acme", 400, "next_cursor of an earlier page"),
        ("/revenue?cursor=2026-11-20.EUR", "demo-acme", 400, "next_cursor of an earlier page"),
        (of_no_day.as_str(), "demo-acme", 400, "next_cursor of an earlier page"),
        (with_nul.as_str(), "demo-acme", 400, "next_cursor of an earlier page"),
        ("/revenue?since=2026-11-21", "demo-acme", 400, "since"),
        ("/revenue?from=2026-11-20&from=2026-11-21", "demo-acme", 400, "from"),
        ("/revenue", "nobody", 401, "API key"),
        ("/funnel", "nobody", 401, "API key"),
        ("/nothing", "demo-acme", 404, "path"),
    ] {
        let (answered, problem) = get(&running, path, key).await;
        assert_eq!(answered, status, "{path}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains(named), "{path}: {problem}");
    }
    running.shutdown().await;
}

#[tokio::test]
async fn reports_that_take_long_leave_connections_to_everything_else() {
    let house = House::empty().await;
    let running = house.start().await;
    let mut outside = house.pool.begin().await.unwrap();
    sqlx::query("lock table orders in access exclusive mode").execute(&mut *outside).await.unwrap();
    // More requests than connections.
    let reports = (0..40).map(|_| text(&running, "/revenue", "demo-acme"));
    let reports = futures::future::join_all(reports);
    let meanwhile = async {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        let began = std::time::Instant::now();
        let path = format!("/orders/{}/history", events::OrderId::new());
        let (status, _) = text(&running, &path, "demo-acme").await;
        assert_eq!(status, 404);
        assert!(began.elapsed() < std::time::Duration::from_secs(1), "{:?}", began.elapsed());
    };
    let (reports, ()) = tokio::join!(reports, meanwhile);
    let busy = reports
        .iter()
        .filter(|(status, text)| *status == 503 && text.contains("too many requests"));
    assert!(busy.count() > 30, "{reports:?}");
    outside.rollback().await.unwrap();
    assert_eq!(text(&running, "/revenue", "demo-acme").await.0, 200);
    running.shutdown().await;
}

#[tokio::test]
async fn a_tenants_reports_take_no_turn_of_another_tenant() {
    let house = House::empty().await;
    let running = house.start().await;
    let mut outside = house.pool.begin().await.unwrap();
    sqlx::query("lock table orders in access exclusive mode").execute(&mut *outside).await.unwrap();
    let slow = futures::future::join_all((0..4).map(|_| text(&running, "/revenue", "demo-acme")));
    let other = async {
        let waiting =
            "select count(*) from pg_locks where not granted and relation = 'orders'::regclass";
        let waits = async || {
            let waiting: i64 = sqlx::query_scalar(waiting).fetch_one(&house.pool).await.unwrap();
            (waiting > 0).then_some(())
        };
        eventually("a report to wait", PATIENCE, waits).await;
        assert_eq!(text(&running, "/baskets", "demo-globex").await.0, 200);
        outside.rollback().await.unwrap();
    };
    let (slow, ()) = tokio::join!(slow, other);
    assert_eq!(slow.iter().map(|(status, _)| *status).collect::<Vec<_>>(), [200; 4], "in turn");
    running.shutdown().await;
}
