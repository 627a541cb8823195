//! Kafka or Postgres becomes unavailable during a flow, on separate servers.

use chassis::Config;
use kafka::rdkafka::consumer::{BaseConsumer, Consumer};
use kafka::{Settings, dead_letter_topic};
use sandbox::testing::eventually;
use sandbox::{Servers, ServersOptions, Shutdown, Silent, Tools};

use crate::house::{House, PATIENCE};

async fn start() -> (Servers, House, Settings) {
    let servers =
        Servers::start(ServersOptions::default(), &Tools::find().unwrap(), &Silent).await.unwrap();
    let brokers = servers.kafka.brokers();
    let order = servers.postgres.create_database("order").await.unwrap();
    let billing = servers.postgres.create_database("billing").await.unwrap();
    // Boxed, since the future of two starting services is large.
    let house = Box::pin(House::start(
        Config::for_tests(&order, &brokers, ""),
        Config::for_tests(&billing, &brokers, ""),
    ))
    .await;
    let settings = Settings::new(brokers, "");
    (servers, house, settings)
}

fn dead_letters(settings: &Settings) -> i64 {
    let client: BaseConsumer = settings.client().create().unwrap();
    client.fetch_watermarks(&dead_letter_topic("billing").name, 0, PATIENCE).unwrap().1
}

#[tokio::test]
async fn without_kafka_orders_are_taken_and_the_invoices_follow() {
    let (mut servers, house, settings) = start().await;
    let before = house.placed().await;
    house.invoiced(&before).await;

    servers.kafka.halt().await;
    let mut orders = Vec::new();
    for _ in 0..10 {
        orders.push(house.placed().await);
    }
    let degraded = async || {
        let (status, body) = House::ready(&house.order).await;
        (body["kafka"] == "away").then_some((status, body["status"].clone()))
    };
    let readiness =
        eventually("readiness to report that Kafka is unavailable", PATIENCE, degraded).await;
    assert_eq!(readiness, (200, "degraded".into()), "it stays in rotation");

    servers.kafka.start_again().await.unwrap();
    for order in &orders {
        house.invoiced(order).await;
    }
    for order in &orders {
        assert_eq!(house.invoices(order).await.len(), 1);
    }
    assert_eq!(dead_letters(&settings), 0);
    house.end().await;
    servers.stop().await;
}

#[tokio::test]
async fn postgres_away_for_a_moment_costs_nothing_but_the_moment() {
    let (mut servers, house, settings) = start().await;
    let mut orders = Vec::new();
    for round in 0..6 {
        if round == 3 {
            // Events of the other orders are on their way meanwhile.
            servers.postgres.restart(Shutdown::Immediate).await.unwrap();
        }
        let placed = async || {
            let response = house.place().send().await.ok()?;
            let refused = [409, 503].contains(&response.status().as_u16());
            assert!(refused || response.status() == 201, "{}", response.status());
            if refused { None } else { Some(crate::house::id(response).await) }
        };
        orders.push(eventually("an order to be taken", PATIENCE, placed).await);
    }
    for order in &orders {
        house.invoiced(order).await;
        assert_eq!(house.invoices(order).await.len(), 1);
    }
    let ready = async || (House::ready(&house.billing).await.1["status"] == "ready").then_some(());
    eventually("billing to be ready again", PATIENCE, ready).await;
    assert_eq!(dead_letters(&settings), 0, "nothing is dead-lettered for it");
    house.end().await;
    servers.stop().await;
}
