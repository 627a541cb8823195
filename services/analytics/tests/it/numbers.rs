use std::collections::BTreeMap;

use serde_json::json;

use crate::house::{House, Story, get, story};

#[tokio::test]
async fn duplicates_and_disorder_leave_the_same_numbers() {
    let house = House::empty().await;
    let running = house.start().await;
    // Every order in which three events can come, each of them twice and all of them again at the end. They are
    // sent one after the other and waited for, since topics are read side by side.
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    let stories: Vec<Story> =
        orders.iter().map(|_| story("acme", "EUR", 1000, "2026-11-20T12:00:00Z")).collect();
    let events = |n: usize| {
        let Story { created, updated, completed } = &stories[n];
        [created, updated, completed]
    };
    for turn in 0..3 {
        for (n, order) in orders.iter().enumerate() {
            let event = events(n)[order[turn]];
            house.send(event).await;
            house.send(event).await;
        }
        house.heard(orders.len() * (turn + 1)).await;
    }
    for n in 0..orders.len() {
        for event in events(n) {
            house.send(event).await;
        }
    }
    // Of two more, one is not completed, and one was never heard to be created.
    let [open, gap] = ["2026-11-20T23:00:00Z", "2026-11-21T00:30:00+01:00"]
        .map(|at| story("acme", "EUR", 500, at));
    house.send(&open.created).await;
    house.send(&open.updated).await;
    house.send(&gap.completed).await;
    house.heard(orders.len() * 3 + 3).await;

    let revenue = json!({"revenue": [
        {"day": "2026-11-20", "currency": "EUR", "orders": 7, "total": 6500},
    ]});
    assert_eq!(get(&running, "/revenue", "demo-acme").await, (200, revenue));
    let funnel = json!({"placed": 0, "created": 8, "open": 1, "completed": 7});
    assert_eq!(get(&running, "/funnel", "demo-acme").await, (200, funnel));
    running.shutdown().await;
}

#[tokio::test]
async fn an_open_order_counts_as_its_latest_version_says() {
    let house = House::empty().await;
    let running = house.start().await;
    let story = story("acme", "EUR", 1000, "2026-11-20T12:00:00Z");
    house.send(&story.updated).await;
    house.heard(1).await;
    house.send(&story.created).await;
    house.heard(2).await;
    let (total, version): (i64, i64) =
        sqlx::query_as("select total, version from orders").fetch_one(&house.pool).await.unwrap();
    assert_eq!((total, version), (999, 2));
    assert_eq!(get(&running, "/revenue", "demo-acme").await, (200, json!({"revenue": []})));
    running.shutdown().await;
}

/// Random lives of orders, told shuffled and more than once; the numbers are those of the orders as they ended.
#[tokio::test]
async fn the_numbers_are_those_of_the_orders_themselves() {
    const ORDERS: usize = 60;
    let house = House::empty().await;
    let running = house.start().await;
    let mut random = fastrand::Rng::with_seed(7);
    let (mut sent, mut different) = (Vec::new(), 0);
    let (mut open, mut revenue) = (0, BTreeMap::<(&str, &str), (u32, i64)>::new());
    for _ in 0..ORDERS {
        let day = *random.choice(&["2026-11-19", "2026-11-20"]).unwrap();
        let currency = *random.choice(&["EUR", "JPY"]).unwrap();
        let total = random.i64(10..1_000_000);
        let Story { created, updated, completed } =
            story("acme", currency, total, &format!("{day}T12:00:00Z"));
        let mut life = vec![created, updated];
        if random.bool() {
            life.push(completed);
            let sums = revenue.entry((day, currency)).or_default();
            *sums = (sums.0 + 1, sums.1 + total);
        } else {
            open += 1;
        }
        different += life.len();
        for event in life {
            sent.extend(std::iter::repeat_n(event, random.usize(1..4)));
        }
    }
    random.shuffle(&mut sent);
    for event in &sent {
        house.send(event).await;
    }
    house.heard(different).await;
    let rows = revenue.iter().map(|((day, currency), (orders, total))| {
        json!({ "day": day, "currency": currency, "orders": orders, "total": total })
    });
    let rows = json!({ "revenue": rows.collect::<Vec<_>>() });
    assert_eq!(get(&running, "/revenue", "demo-acme").await, (200, rows));
    let funnel =
        json!({ "placed": 0, "created": ORDERS, "open": open, "completed": ORDERS - open });
    assert_eq!(get(&running, "/funnel", "demo-acme").await, (200, funnel));
    running.shutdown().await;
}
