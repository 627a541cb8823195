use std::time::Duration;

use chassis::Config;
use kafka::rdkafka::consumer::{BaseConsumer, Consumer};
use kafka::{Record, Settings};
use sandbox::testing::{TestSpace, eventually};

use crate::house::{House, PATIENCE, id};

async fn start() -> (House, Settings) {
    let space = TestSpace::new().await;
    let (brokers, prefix) = (space.kafka_brokers(), space.topic_prefix());
    let order = Config::for_tests(space.database_url(), brokers, prefix);
    let billing = Config::for_tests(&space.database("billing").await, brokers, prefix);
    // Boxed, since the future of two starting services is large.
    (Box::pin(House::start(order, billing)).await, Settings::new(brokers, prefix))
}

/// Returns the first record of a topic.
async fn first(settings: &Settings, topic: &str) -> Record {
    let consumer: BaseConsumer = settings.consumer("reader").create().unwrap();
    consumer.subscribe(&[&settings.prefixed(topic)]).unwrap();
    let poll = async || match consumer.poll(Duration::ZERO) {
        Some(Ok(message)) => Some(Record::from_message(&message)),
        _ => None,
    };
    eventually(&format!("a record in {topic}"), PATIENCE, poll).await
}

#[tokio::test]
async fn an_order_becomes_an_invoice_under_one_correlation_id_and_in_one_trace() {
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    let (house, settings) = start().await;
    let response = house
        .place()
        .header("x-correlation-id", "checkout-17")
        .header("traceparent", format!("00-{TRACE}-00f067aa0ba902b7-01"))
        .send()
        .await
        .unwrap();
    assert_eq!(response.headers()["x-correlation-id"], "checkout-17");
    let order = id(response).await;
    let invoice = house.invoiced(&order).await;
    assert_eq!((&invoice["number"], &invoice["total"]), (&1.into(), &900.into()));

    let completed = first(&settings, "order.completed").await;
    let issued = first(&settings, "invoice.issued").await;
    for record in [&completed, &issued] {
        assert_eq!(record.text_header("ce_correlationid"), Some("checkout-17"));
        assert_eq!(record.text_header("ce_subject"), Some(order.as_str()));
        for name in ["ce_traceparent", "traceparent"] {
            let traceparent = record.text_header(name).unwrap();
            assert_eq!(traceparent.split('-').nth(1), Some(TRACE), "{} {name}", record.topic);
        }
        let hop = record.text_header("traceparent");
        assert_ne!(hop, record.text_header("ce_traceparent"), "the hop has a separate span");
    }
    assert_eq!(issued.text_header("ce_causationid"), completed.text_header("ce_id"));
    assert_eq!(issued.text_header("ce_sequence"), completed.text_header("ce_sequence"));
    house.end().await;
}

#[tokio::test]
async fn the_metrics_of_both_are_there_to_be_scraped() {
    let (house, _) = start().await;
    let order = house.placed().await;
    house.invoiced(&order).await;
    for (running, names) in [
        (
            &house.order,
            &["messaging_client_sent_messages_total", "http_server_request_duration_seconds_count"]
                [..],
        ),
        (
            &house.billing,
            &[
                "messaging_client_consumed_messages_total",
                "messaging_process_duration_seconds_count",
            ],
        ),
    ] {
        let scrape = async || {
            let text = reqwest::get(format!("http://{}/metrics", running.admin))
                .await
                .ok()?
                .text()
                .await
                .ok()?;
            names.iter().all(|name| text.contains(name)).then_some(())
        };
        eventually(&format!("{names:?}"), PATIENCE, scrape).await;
    }
    house.end().await;
}
