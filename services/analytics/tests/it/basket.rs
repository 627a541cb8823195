use analytics::app;
use chassis::RunningService;
use envelope::EventId;
use events::OrderCompleted;
use sandbox::testing::eventually;
use serde_json::{Value, json};

use crate::house::{House, PATIENCE, get, story};

/// Sends completed orders with the items of the schema's example, each event twice.
async fn sell(house: &House, orders: usize) {
    for _ in 0..orders {
        let completed = story("acme", "EUR", 1000, "2026-11-20T12:00:00Z").completed;
        house.send(&completed).await;
        house.send(&completed).await;
    }
}

async fn until(running: &RunningService, orders: usize) -> Value {
    eventually("all orders are in the baskets", PATIENCE, async || {
        let (_, baskets) = get(running, "/baskets", "demo-acme").await;
        (baskets["orders"] == orders).then_some(())
    })
    .await;
    get(running, "/best-sellers", "demo-acme").await.1
}

#[tokio::test]
async fn a_feature_that_is_new_gets_what_happened_before_it() {
    let house = House::empty().await;
    sell(&house, 5).await;
    let running = house.start().await;
    let best = until(&running, 5).await;
    let first = &best["best_sellers"][0];
    assert_eq!(first["orders"], 5, "{best}");
    let (_, baskets) = get(&running, "/baskets", "demo-acme").await;
    let items = baskets["items"].as_f64().unwrap();
    assert!(items >= 5.0 && baskets["items_per_order"] == items / 5.0, "{baskets}");
    assert_eq!(
        get(&running, "/best-sellers", "demo-globex").await.1,
        json!({ "best_sellers": [] })
    );
    let (_, of_another) = get(&running, "/baskets", "demo-globex").await;
    assert_eq!(of_another, json!({ "orders": 0, "items": 0, "items_per_order": 0.0 }));
    assert_eq!(get(&running, "/best-sellers?limit=0", "demo-acme").await.0, 400);
    running.shutdown().await;
}

#[tokio::test]
async fn an_order_has_one_basket_whatever_events_say() {
    let house = House::empty().await;
    // Sent under two ids, so the inbox does not recognise the duplicate. Sent before the start, so
    // that both are in one batch.
    let completed = story("acme", "EUR", 1000, "2026-11-20T12:00:00Z").completed;
    let mut again = completed.clone();
    again.envelope.id = EventId::generate();
    house.send(&completed).await;
    house.send(&again).await;
    let running = house.start().await;
    house.wait_until_consumed("analytics.basket", 2).await;
    let order: OrderCompleted = serde_json::from_slice(&completed.data).unwrap();
    let items: i64 = order.order.items.iter().map(|item| item.quantity).sum();
    let (_, baskets) = get(&running, "/baskets", "demo-acme").await;
    assert_eq!((&baskets["orders"], &baskets["items"]), (&json!(1), &json!(items)));
    running.shutdown().await;
}

#[tokio::test]
async fn the_basket_of_a_cancelled_order_counts_no_longer_whichever_event_comes_first() {
    let house = House::empty().await;
    let running = house.start().await;
    sell(&house, 1).await;
    let kept = until(&running, 1).await;
    let story = || story("acme", "EUR", 1000, "2026-11-20T12:00:00Z");
    let (tidy, overtaken) = (story(), story());
    let events = [&tidy.completed, &tidy.cancelled, &overtaken.cancelled, &overtaken.completed];
    for (n, event) in events.into_iter().enumerate() {
        house.send(event).await;
        house.send(event).await;
        house.wait_until_consumed("analytics.basket", n + 2).await;
        let counted = get(&running, "/baskets", "demo-acme").await.1["orders"].clone();
        assert_eq!(counted, if n == 0 { 2 } else { 1 }, "after {n}");
    }
    assert_eq!(get(&running, "/best-sellers", "demo-acme").await, (200, kept));
    running.shutdown().await;
}

#[tokio::test]
async fn a_second_generation_reads_all_anew_beside_the_first_and_takes_over() {
    let house = House::empty().await;
    sell(&house, 4).await;
    let running = house.start().await;
    let before = until(&running, 4).await;
    running.shutdown().await;

    // The first generation has wrong numbers. They are served until the second has caught up.
    sqlx::query("update basket set quantity = 0").execute(&house.pool).await.unwrap();
    let running = house.start_with(|config| config.basket_generations = vec![1, 2]).await;
    eventually("the second has caught up", PATIENCE, async || {
        let orders: i64 =
            sqlx::query_scalar("select count(distinct order_id) from basket where generation = 2")
                .fetch_one(&house.pool)
                .await
                .unwrap();
        (orders == 4).then_some(())
    })
    .await;
    assert_eq!(get(&running, "/baskets", "demo-acme").await.1["items"], 0);
    running.shutdown().await;

    let running = house
        .start_with(|config| {
            config.basket_generations = vec![1, 2];
            config.basket_served = Some(2);
        })
        .await;
    assert_eq!(get(&running, "/best-sellers", "demo-acme").await, (200, before));
    running.shutdown().await;
}

#[tokio::test]
async fn generations_that_make_no_sense_are_named() {
    let house = House::empty().await;
    for (fed, served, named) in [
        (vec![1], Some(2), "BASKET_SERVED"),
        (vec![1, 1], None, "BASKET_GENERATIONS"),
        (vec![0], None, "BASKET_GENERATIONS"),
    ] {
        let mut config = house.config();
        (config.basket_generations, config.basket_served) = (fed, served);
        let error = app::build(config).start().await.unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains(named), "{cause}");
    }
}
