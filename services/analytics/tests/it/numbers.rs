use std::collections::BTreeMap;

use envelope::Encoded;
use events::OrderCreated;
use fastrand::Rng;
use sandbox::testing::eventually;
use serde_json::{Value, json};
use time::UtcOffset;

use crate::house::{House, PATIENCE, Story, cancelled, encoded, get, post_event, settled, story};
use crate::life::{Row, life};

#[tokio::test]
async fn duplicates_and_disorder_leave_the_same_numbers() {
    let house = House::empty().await;
    let running = house.start().await;
    // Every order in which three events can arrive, each event twice, and all of them again at the
    // end. They are sent one after the other and awaited, since topics are consumed concurrently.
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    let stories: Vec<Story> =
        orders.iter().map(|_| story("acme", "EUR", 1000, "2026-11-20T12:00:00Z")).collect();
    let events = |n: usize| {
        let Story { created, updated, completed, .. } = &stories[n];
        [created, updated, completed]
    };
    for turn in 0..3 {
        for (n, order) in orders.iter().enumerate() {
            let event = events(n)[order[turn]];
            house.send(event).await;
            house.send(event).await;
        }
        house.wait_for_numbers(orders.len() * (turn + 1)).await;
    }
    for n in 0..orders.len() {
        for event in events(n) {
            house.send(event).await;
        }
    }
    // Of two more orders, one is not completed, and the creation of one is missing.
    let [open, gap] = ["2026-11-20T23:00:00Z", "2026-11-21T00:30:00+01:00"]
        .map(|at| story("acme", "EUR", 500, at));
    house.send(&open.created).await;
    house.send(&open.updated).await;
    house.send(&gap.completed).await;
    house.wait_for_numbers(orders.len() * 3 + 3).await;

    let revenue = json!({"revenue": [
        {"day": "2026-11-20", "currency": "EUR", "orders": 7, "total": 6500},
    ], "next_cursor": null});
    assert_eq!(get(&running, "/revenue", "demo-acme").await, (200, revenue));
    let funnel = json!({"placed": 0, "created": 8, "open": 1, "completed": 7, "cancelled": 0});
    assert_eq!(get(&running, "/funnel", "demo-acme").await, (200, funnel));
    running.shutdown().await;
}

#[tokio::test]
async fn a_cancelled_order_counts_as_such_wherever_its_cancellation_comes() {
    let house = House::empty().await;
    let running = house.start().await;
    // A cancellation before, between and after the earlier events, each event twice. One order is
    // not cancelled.
    let orders = [[3, 0, 2], [0, 3, 2], [2, 3, 0], [0, 2, 3], [3, 2, 0], [2, 0, 3]];
    let story = || story("acme", "EUR", 1000, "2026-11-20T12:00:00Z");
    let stories: Vec<Story> = orders.iter().map(|_| story()).collect();
    let kept = story();
    house.send(&kept.completed).await;
    for turn in 0..3 {
        for (story, order) in stories.iter().zip(&orders) {
            let Story { created, updated, completed, cancelled } = story;
            let event = [created, updated, completed, cancelled][order[turn]];
            house.send(event).await;
            house.send(event).await;
        }
        house.wait_for_numbers(orders.len() * (turn + 1) + 1).await;
    }
    let open = crate::house::order("acme", "EUR");
    house.send(&encoded(1, OrderCreated(open.clone()))).await;
    house.send(&encoded(2, cancelled(open, None))).await;
    house.wait_for_numbers(orders.len() * 3 + 3).await;

    let revenue = json!({"revenue": [
        {"day": "2026-11-20", "currency": "EUR", "orders": 1, "total": 1000},
    ], "next_cursor": null});
    assert_eq!(get(&running, "/revenue", "demo-acme").await, (200, revenue));
    let funnel = json!({"placed": 0, "created": 8, "open": 0, "completed": 1, "cancelled": 7});
    assert_eq!(get(&running, "/funnel", "demo-acme").await, (200, funnel));
    running.shutdown().await;
}

#[tokio::test]
async fn an_open_order_counts_as_its_latest_version_says() {
    let house = House::empty().await;
    let running = house.start().await;
    let story = story("acme", "EUR", 1000, "2026-11-20T12:00:00Z");
    house.send(&story.updated).await;
    house.wait_for_numbers(1).await;
    house.send(&story.created).await;
    house.wait_for_numbers(2).await;
    let (total, version): (i64, i64) =
        sqlx::query_as("select total, version from orders").fetch_one(&house.pool).await.unwrap();
    assert_eq!((total, version), (999, 2));
    assert_eq!(
        get(&running, "/revenue", "demo-acme").await,
        (200, json!({"revenue": [], "next_cursor": null}))
    );
    running.shutdown().await;
}

#[tokio::test]
async fn the_numbers_are_those_of_the_order_services_rows() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = Rng::with_seed(seed);
    let (rows, events): (Vec<Row>, Vec<_>) = (0..60).map(|_| life(&mut random)).unzip();
    let events: Vec<Encoded> = events.into_iter().flatten().collect();
    // All events once, and half as many again at random. Events of one type and key are not in
    // order either.
    let again: Vec<_> = (0..events.len() / 2).map(|_| random.usize(..events.len())).collect();
    let mut deliveries: Vec<_> = (0..events.len()).chain(again).collect();
    random.shuffle(&mut deliveries);

    let house = House::empty().await;
    let running = house.start().await;
    for event in deliveries.iter().map(|n| &events[*n]) {
        if random.u8(..10) == 0 {
            post_event(&running, event).await;
        } else {
            house.send(event).await;
        }
    }
    eventually("all events are settled", PATIENCE, async || {
        (settled(&running, "analytics").await >= deliveries.len()).then_some(())
    })
    .await;

    for (tenant, key) in [("acme", "demo-acme"), ("globex", "demo-globex")] {
        let rows: Vec<_> =
            rows.iter().filter(|row| row.order.tenant_id.as_str() == tenant).collect();
        assert_eq!(get(&running, "/revenue", key).await, (200, revenue_of(&rows)), "{tenant}");
        assert_eq!(get(&running, "/funnel", key).await, (200, funnel_of(&rows)), "{tenant}");
    }
    running.shutdown().await;
}

fn revenue_of(rows: &[&Row]) -> Value {
    let mut days: BTreeMap<(String, &str), (u32, i64)> = BTreeMap::new();
    for row in rows {
        let (Some(completed_at), false) = (row.completed_at, row.cancelled) else { continue };
        let day = completed_at.to_offset(UtcOffset::UTC).date().to_string();
        let (orders, total) = days.entry((day, &row.order.currency)).or_default();
        *orders += 1;
        *total += row.order.total;
    }
    let days = days.into_iter().map(|((day, currency), (orders, total))| {
        json!({"day": day, "currency": currency, "orders": orders, "total": total})
    });
    json!({"revenue": days.collect::<Vec<_>>(), "next_cursor": null})
}

fn funnel_of(rows: &[&Row]) -> Value {
    let completed = rows.iter().filter(|row| row.completed_at.is_some() && !row.cancelled).count();
    let cancelled = rows.iter().filter(|row| row.cancelled).count();
    let open = rows.len() - completed - cancelled;
    json!({
        "placed": 0, "created": rows.len(), "open": open, "completed": completed, "cancelled": cancelled,
    })
}
