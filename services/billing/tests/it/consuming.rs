use std::collections::HashSet;

use chassis::RunningService;
use envelope::EventId;
use events::InvoiceIssued;
use kafka::{Coordinates, DeadLetter, Headers, Record};

use crate::house::{House, completed, completed_with};

#[tokio::test]
async fn a_completed_order_gets_one_invoice_and_it_is_said() {
    let house = House::empty().await;
    let running = house.start().await;
    let event = completed("acme");
    house.send(&event).await;

    let invoices = house.invoiced(1).await;
    assert_eq!(invoices[0].0.to_string(), event.subject());
    assert_eq!((invoices[0].1.as_str(), invoices[0].2), ("acme", 1));

    let record = house.records("invoice.issued", 1).await.remove(0);
    let published = kafka::decode(&record).unwrap();
    let envelope = &published.envelope;
    let issued: InvoiceIssued = envelope.read(&published.data).unwrap();
    assert_eq!((issued.number, issued.total, issued.currency.as_str()), (1, 1350, "EUR"));
    assert_eq!(envelope.source, "/billing");
    assert_eq!(envelope.subject, event.envelope.subject);
    assert_eq!(envelope.version, Some(2), "the completed order's");
    assert_eq!(envelope.correlation_id.as_str(), "flow-17");
    assert_eq!(envelope.causation_id.as_ref(), Some(&event.envelope.id));
    assert_eq!(record.key.as_deref(), Some(event.subject().as_bytes()));
    running.shutdown().await;
}

#[tokio::test]
async fn the_same_event_however_often_and_another_of_the_same_order_change_nothing() {
    let house = House::empty().await;
    let running = house.start().await;
    let event = completed("acme");
    for _ in 0..5 {
        house.send(&event).await;
    }
    let mut repeated = event.clone();
    repeated.envelope.id = EventId::generate();
    house.send(&repeated).await;
    let mut of_another_source = event.clone();
    of_another_source.envelope.source = "/elsewhere".into();
    house.send(&of_another_source).await;
    // The marker has the same key, so it is processed after all of those.
    let mut marker = completed_with("acme", |_| {});
    marker.envelope.partition_key = event.envelope.subject.clone();
    house.send(&marker).await;

    let invoices = house.invoiced(2).await;
    assert_eq!(
        invoices.iter().map(|invoice| invoice.2).collect::<Vec<_>>(),
        [1, 2],
        "no number is lost"
    );
    running.shutdown().await;
}

#[tokio::test]
async fn poison_goes_to_the_dead_letters_as_it_was_and_the_next_order_gets_its_invoice() {
    let house = House::empty().await;
    let running = house.start().await;
    let good = completed("acme");
    let key = good.subject().as_bytes().to_vec();
    let headers = kafka::content_headers(&good.envelope);
    let odd: [(&str, Option<&[u8]>); 3] = [("odd", None), ("odd", Some(&[0xff])), ("", Some(b""))];
    let odd: Headers = headers.iter().filter(|(name, _)| *name != "ce_id").chain(odd).collect();
    let mut unknown_major = good.envelope.clone();
    unknown_major.dataschema =
        Some("https://orderflow.example/schemas/order.completed/2.0.json".into());
    let unknown_major = kafka::content_headers(&unknown_major);

    let poison: Vec<(Option<Vec<u8>>, Headers)> = vec![
        (Some(vec![0xff, 0x00, 0x9f, 0x92]), Headers::new()), // random bytes
        (Some(Vec::new()), headers.clone()),                  // empty
        (None, headers.clone()),                              // a tombstone
        (Some(good.data.clone()), unknown_major),             // of an unknown major
        (Some(good.data.clone()), Headers::new()),            // without headers
        (Some(good.data.clone()), odd),                       // null and repeated headers
        (Some(b"[".repeat(50_000)), headers.clone()),         // deep
        (Some(vec![b'x'; 900 * 1024]), headers.clone()),      // nearly too large
    ];
    let mut sent = Vec::new();
    for (value, headers) in &poison {
        sent.push(house.send_raw(Some(key.clone()), value.clone(), headers).await);
    }
    house.send(&good).await;
    house.invoiced(1).await;

    let dead = house.records("billing.dlq", poison.len()).await;
    for ((value, headers), (partition, offset)) in poison.into_iter().zip(sent) {
        let of = |record: &&Record| {
            Coordinates::carried_by(record)
                .is_some_and(|at| (at.partition, at.offset) == (partition, offset))
        };
        let record = dead.iter().find(of).unwrap();
        assert_eq!(record.key.as_ref(), Some(&key));
        // Kafka distinguishes an empty value from none, and so must the dead letter.
        assert_eq!(record.value, value);
        assert!(record.headers.iter().take(headers.len()).eq(headers.iter()), "{record:?}");
        let letter = DeadLetter::read(record).unwrap();
        assert_eq!(letter.origin.topic, house.settings.prefixed("order.completed"));
        assert_eq!(letter.group, house.settings.prefixed("billing"));
        assert!(!letter.reason.message.is_empty() && !letter.reason.exception.is_empty());
    }
    running.shutdown().await;
}

#[tokio::test]
async fn numbers_have_no_gaps_when_an_invoice_is_refused() {
    let house = House::empty().await;
    let running = house.start().await;
    for n in 0..40 {
        let tenant = if n % 2 == 0 { "acme" } else { "globex" };
        let mut event = completed(tenant);
        if n % 5 == 0 {
            // The invoice's schema refuses the address after the number was assigned.
            let mut data: serde_json::Value = serde_json::from_slice(&event.data).unwrap();
            data["customer_email"] = "nobody".into();
            event.data = serde_json::to_vec(&data).unwrap();
        }
        house.send(&event).await;
    }
    let invoices = house.invoiced(32).await;
    house.records("billing.dlq", 8).await;
    for tenant in ["acme", "globex"] {
        let numbers: Vec<_> = invoices.iter().filter(|i| i.1 == tenant).map(|i| i.2).collect();
        assert_eq!(numbers, (1..=16).collect::<Vec<_>>(), "{tenant}");
    }
    running.shutdown().await;
}

#[tokio::test]
async fn a_message_that_fails_is_tried_four_times_while_others_go_on() {
    let house = House::empty().await;
    let running = house.start().await;
    let failing = completed("acme");
    // A failed constraint may succeed later, so it is retried.
    sqlx::query(sqlx::AssertSqlSafe(format!(
        "alter table invoices add constraint no_such_order check (order_id <> '{}')",
        failing.subject()
    )))
    .execute(&house.pool)
    .await
    .unwrap();
    house.send(&failing).await;
    for _ in 0..10 {
        house.send(&completed("acme")).await;
    }
    house.invoiced(10).await;

    let dead = house.records("billing.dlq", 1).await.remove(0);
    let letter = DeadLetter::read(&dead).unwrap();
    assert!(letter.reason.stacktrace.contains("no_such_order"), "{:?}", letter.reason);
    let metrics = reqwest::get(format!("http://{}/metrics", running.admin))
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    let mut lines = metrics.lines().filter(|line| line.starts_with("consumer_retries_total"));
    let retries = lines.find(|line| line.contains("name=\"billing\"")).unwrap();
    assert!(retries.ends_with(" 3"), "{retries}");
    assert_eq!(house.invoices().await.len(), 10);
    running.shutdown().await;
}

#[tokio::test]
async fn a_second_instance_goes_on_where_the_first_left_off() {
    let house = House::empty().await;
    let first = house.start().await;
    house.send(&completed("acme")).await;
    house.invoiced(1).await;
    assert!(first.shutdown().await, "it drains in time");
    house.send(&completed("acme")).await;
    let second = house.start().await;
    house.invoiced(2).await;
    let known: i64 =
        sqlx::query_scalar("select count(*) from inbox where subscription = 'billing'")
            .fetch_one(&house.pool)
            .await
            .unwrap();
    assert_eq!(known, 2);
    second.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_that_wait_are_invoiced_together_without_a_gap_in_the_numbers() {
    let house = House::empty().await;
    let mut orders = Vec::new();
    for n in 0..120 {
        let event = completed(if n % 3 == 0 { "globex" } else { "acme" });
        // Some are published twice, as events with different ids.
        if n % 10 == 0 {
            let mut repeated = event.clone();
            repeated.envelope.id = EventId::generate();
            house.send(&repeated).await;
        }
        house.send(&event).await;
        orders.push(event);
    }
    let running = house.start().await;
    let invoices = house.invoiced(orders.len()).await;
    for (tenant, orders) in [("acme", 80), ("globex", 40)] {
        let numbers =
            invoices.iter().filter(|(_, of, _)| of == tenant).map(|(_, _, number)| *number);
        assert_eq!(numbers.collect::<Vec<_>>(), (1..=orders).collect::<Vec<_>>(), "{tenant}");
    }
    assert!(house.is_dated_in_order("invoices", "issued_at").await, "{invoices:?}");
    let issued = house.records("invoice.issued", orders.len()).await;
    let of_orders: HashSet<_> =
        issued.iter().filter_map(|it| it.text_header("ce_subject")).collect();
    assert_eq!((issued.len(), of_orders.len()), (orders.len(), orders.len()));
    let batches = running_metric(&running, "consumer_batch_size_count").await;
    assert!(batches >= 1.0, "none were handled together");
    assert!(running.shutdown().await);
}

async fn running_metric(running: &RunningService, name: &str) -> f64 {
    let url = format!("http://{}/metrics", running.admin);
    let text = reqwest::get(url).await.unwrap().text().await.unwrap();
    let lines = text.lines().filter(|line| line.starts_with(name));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}
