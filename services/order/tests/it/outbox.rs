use std::time::Duration;

use envelope::{CorrelationId, Envelope, Event};
use events::{OrderCompleted, OrderCreated, OrderUpdated};
use kafka::Settings;
use sandbox::testing::{TestSpace, eventually};
use serde_json::{Value, json};

use crate::app::{App, Ask, Rows, an_order, an_order_with, traced};

const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn what_is_said_fits_its_schema_and_tells_of_its_flow() {
    traced();
    let app = App::start().await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let in_flow = |request: reqwest::RequestBuilder, flow: &str| {
        request
            .header("x-correlation-id", flow)
            .header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01"))
            .answer()
    };
    let placed = in_flow(app.post("/orders").json(&an_order()), "flow-1").await.json();
    let id = placed["id"].as_str().unwrap();
    let change = json!({ "customer_email": "grace@example.com" });
    let patch = app.patch(id).header("if-match", "\"1\"").json(&change);
    assert_eq!(in_flow(patch, "flow-2").await.status, 200);
    let complete = app.post(&format!("/orders/{id}/complete"));
    let completed = in_flow(complete, "flow-3").await.json();

    let events = app.events().await;
    let types = [OrderCreated::TYPE, OrderUpdated::TYPE, OrderCompleted::TYPE];
    assert_eq!(events.len(), types.len());
    for (n, (event, event_type)) in (1..).zip(events.iter().zip(types)) {
        assert_eq!((event.topic.as_str(), event.key.as_str()), (event_type, id));
        let schema = [OrderCreated::SCHEMA, OrderUpdated::SCHEMA, OrderCompleted::SCHEMA]
            [usize::try_from(n - 1).unwrap()];
        schema.check(event_type, &event.data()).unwrap();

        let (envelope, ignored) = Envelope::from_attributes(|name| {
            event.headers.0.get(&format!("ce_{name}")).map(String::as_str)
        })
        .unwrap();
        assert_eq!(ignored, []);
        assert_eq!(
            (envelope.event_type.as_str(), envelope.source.as_str()),
            (event_type, "/order")
        );
        assert_eq!(envelope.subject.as_deref(), Some(id));
        assert_eq!(envelope.partition_key.as_deref(), Some(id));
        assert_eq!(envelope.version, Some(n));
        assert_eq!(envelope.tenant_id.unwrap().as_str(), "acme");
        assert_eq!(envelope.correlation_id, CorrelationId::new(format!("flow-{n}")).unwrap());
        assert_eq!(envelope.causation_id, None);
        assert_eq!(envelope.dataschema.as_deref(), schema.uri());
        let traceparent = envelope.traceparent.unwrap();
        assert!(traceparent.starts_with(&format!("00-{trace}-")), "{traceparent}");
    }
    // The event and the response describe the same order.
    for (event, answer) in [(&events[0], &placed), (&events[2], &completed)] {
        let data = event.data();
        for field in ["tenant_id", "status", "customer_email", "currency", "items", "total"] {
            assert_eq!(data[field], answer[field], "{field}");
        }
        for time in ["created_at", "completed_at"] {
            assert_eq!(data.get(time), answer.get(time), "{time}");
        }
    }
}

#[tokio::test]
async fn orders_are_taken_while_kafka_is_away() {
    let app = App::start().await;
    for n in 1..=3 {
        app.place(&an_order()).await;
        assert_eq!(app.rows().await, Rows { orders: n, keys: 0, events: n });
    }
}

#[tokio::test]
async fn what_is_said_is_published() {
    let space = TestSpace::new().await;
    let app = App::with_kafka(&space, space.kafka_brokers()).await;
    let order = an_order_with(json!({ "complete": true }));
    let placed = app.post("/orders").json(&order).answer().await.json();
    let drained = async || (app.rows().await.events == 0).then_some(());
    eventually("an empty outbox", PATIENCE, drained).await;

    let settings = Settings::new(space.kafka_brokers(), space.topic_prefix());
    let completed_at = placed.get("completed_at");
    let types =
        [(OrderCreated::TYPE, "open", None), (OrderCompleted::TYPE, "completed", completed_at)];
    for (version, (event_type, status, completed_at)) in (1..).zip(types) {
        let topic = settings.prefixed(event_type);
        let records = kafka::read_to_end(&settings, &topic, PATIENCE).unwrap();
        assert_eq!(records.len(), 1, "{event_type}");
        assert_eq!(records[0].key.as_deref(), placed["id"].as_str().map(str::as_bytes));
        let event = kafka::decode(&records[0]).unwrap();
        assert_eq!(event.envelope.event_type, event_type);
        assert_eq!(event.envelope.version, Some(version));
        let data: Value = serde_json::from_slice(&event.data).unwrap();
        assert_eq!((&data["status"], data.get("completed_at")), (&json!(status), completed_at));
        for field in ["tenant_id", "customer_email", "currency", "items", "total", "created_at"] {
            assert_eq!(data[field], placed[field], "{field}");
        }
    }
}
