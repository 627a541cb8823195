//! Cancellations compensate for completions, whichever of the two arrives first.

use envelope::{Encoded, EventId};
use events::{InvoiceCredited, InvoiceIssued};
use kafka::Record;
use sandbox::testing::statements_wait_for_a_lock;
use serde_json::json;
use sqlx::Connection;
use uuid::Uuid;

use crate::house::{
    House, PATIENCE, cancelled, cancelled_while_open, cancelled_with, completed, get,
};

fn order_of(event: &Encoded) -> Uuid {
    event.subject().parse().unwrap()
}

/// Returns `true` if the numbers are those from 1 on without a gap.
fn gapless(numbers: impl Iterator<Item = i64>) -> bool {
    let mut numbers: Vec<_> = numbers.collect();
    numbers.sort_unstable();
    (1..).zip(numbers).all(|(expected, number)| expected == number)
}

async fn published<E: envelope::Event>(
    house: &House,
    count: usize,
) -> Vec<(Record, envelope::Envelope, E)> {
    let records = house.records(E::TYPE, count).await;
    let read = |record: Record| {
        let event = kafka::decode(&record).unwrap();
        let (envelope, data) = (event.envelope.clone(), event.envelope.read(&event.data).unwrap());
        (record, envelope, data)
    };
    records.into_iter().map(read).collect()
}

#[tokio::test]
async fn a_completed_order_that_is_cancelled_gets_one_credit_note_and_it_is_said() {
    let house = House::empty().await;
    let running = house.start().await;
    house.send(&completed("acme")).await;
    house.invoiced(1).await;
    let event = completed("acme");
    house.send(&event).await;
    house.invoiced(2).await;
    let cancelled = cancelled(&event);
    house.send(&cancelled).await;

    // The credit note's number is independent of its invoice's.
    assert_eq!(house.credited(1).await, [(order_of(&event), "acme".to_owned(), 1, 2)]);
    let (record, envelope, credited) = published::<InvoiceCredited>(&house, 1).await.remove(0);
    assert_eq!((credited.number, credited.invoice_number, credited.total), (1, 2, 1350));
    assert_eq!((credited.currency.as_str(), credited.tenant_id.as_str()), ("EUR", "acme"));
    assert_eq!(envelope.source, "/billing");
    assert_eq!(envelope.subject, event.envelope.subject);
    assert_eq!(envelope.version, Some(3), "the cancelled order's");
    assert_eq!(envelope.correlation_id.as_str(), "flow-18");
    assert_eq!(envelope.causation_id.as_ref(), Some(&cancelled.envelope.id));
    assert_eq!(record.key.as_deref(), Some(event.subject().as_bytes()));

    let path = format!("/credit-notes?order_id={}", event.subject());
    let (status, page) = get(&running, &path, "demo-acme").await;
    let at = page["credit_notes"][0]["credited_at"].clone();
    let note = json!({
        "id": credited.credit_note_id, "number": 1, "invoice_id": credited.invoice_id, "invoice_number": 2,
        "order_id": event.subject(), "total": 1350, "currency": "EUR", "credited_at": at,
    });
    assert_eq!((status, page), (200, json!({ "credit_notes": [note], "next_cursor": null })));
    assert_eq!(house.invoices().await.len(), 2, "the invoice stays");
    running.shutdown().await;
}

#[tokio::test]
async fn a_cancellation_that_comes_first_issues_both_and_the_completion_adds_nothing() {
    let house = House::empty().await;
    let running = house.start().await;
    let event = completed("acme");
    let cancelled = cancelled(&event);
    house.send(&cancelled).await;
    assert_eq!(house.credited(1).await, [(order_of(&event), "acme".to_owned(), 1, 1)]);
    assert_eq!(house.invoices().await, [(order_of(&event), "acme".to_owned(), 1)]);
    let (_, envelope, issued) = published::<InvoiceIssued>(&house, 1).await.remove(0);
    assert_eq!((issued.number, issued.total), (1, 1350));
    assert_eq!(envelope.version, Some(2), "of its completion");
    assert_eq!(envelope.causation_id.as_ref(), Some(&cancelled.envelope.id));
    assert_eq!(published::<InvoiceCredited>(&house, 1).await[0].2.invoice_id, issued.invoice_id);

    house.send(&event).await;
    house.wait_until_consumed("billing", 1).await;
    let next = completed("acme");
    house.send(&next).await;
    let invoices = house.invoiced(2).await;
    assert_eq!((invoices[1].0, invoices[1].2), (order_of(&next), 2), "no number is lost");
    let issued = published::<InvoiceIssued>(&house, 2).await;
    assert!(gapless(issued.iter().map(|it| it.2.number)), "each is said once");
    assert_eq!(house.credit_notes().await.len(), 1);
    running.shutdown().await;
}

#[tokio::test]
async fn an_order_that_was_cancelled_while_it_was_open_gets_neither() {
    let house = House::empty().await;
    let running = house.start().await;
    let event = completed("acme");
    house.send(&event).await;
    house.invoiced(1).await;
    let open = [cancelled_while_open("acme"), cancelled_while_open("globex")];
    for event in &open {
        house.send(event).await;
    }
    house.wait_until_consumed("billing.credits", open.len()).await;
    assert_eq!((house.invoices().await.len(), house.credit_notes().await), (1, vec![]));
    running.shutdown().await;
}

#[tokio::test]
async fn a_backlog_of_both_in_any_order_and_again_has_one_of_each_without_gaps() {
    const ORDERS: usize = 240;
    let house = House::empty().await;
    let mut credited = 0;
    for n in 0..ORDERS {
        let tenant = ["acme", "globex", "initech"][n % 3];
        let event = completed(tenant);
        let cancelled = cancelled(&event);
        // Also repeated under another id, which the inbox does not recognise but the table does.
        let mut repeated = cancelled.clone();
        repeated.envelope.id = EventId::generate();
        let events: &[&Encoded] = match n % 4 {
            0 => &[&event],
            1 => &[&event, &cancelled, &repeated, &event],
            2 => &[&cancelled, &repeated, &event],
            _ => &[&cancelled, &event, &event, &cancelled],
        };
        credited += usize::from(events.len() > 1);
        for event in events {
            house.send(event).await;
        }
        house.send(&cancelled_while_open(tenant)).await;
    }
    // Both subscriptions start with the whole backlog, and two instances share it.
    let running = [house.start().await, house.start().await];
    let invoices = house.invoiced(ORDERS).await;
    let notes = house.credited(credited).await;
    house.wait_until_consumed("billing", ORDERS).await;
    let repetitions = ORDERS / 2;
    house.wait_until_consumed("billing.credits", credited + repetitions + ORDERS).await;
    assert_eq!(
        (house.invoices().await.len(), house.credit_notes().await.len()),
        (ORDERS, credited)
    );
    for tenant in ["acme", "globex", "initech"] {
        let of_tenant = |its: &&(Uuid, String, i64)| its.1 == tenant;
        assert!(gapless(invoices.iter().filter(of_tenant).map(|it| it.2)), "{invoices:?}");
        assert!(gapless(notes.iter().filter(|it| it.1 == tenant).map(|it| it.2)), "{notes:?}");
    }
    for (table, time) in [("invoices", "issued_at"), ("credit_notes", "credited_at")] {
        assert!(house.is_dated_in_order(table, time).await, "{table}");
    }
    for (order, tenant, _, invoice) in &notes {
        assert!(invoices.contains(&(*order, tenant.clone(), *invoice)), "it credits its invoice");
    }
    assert_eq!(published::<InvoiceIssued>(&house, ORDERS).await.len(), ORDERS);
    assert_eq!(published::<InvoiceCredited>(&house, credited).await.len(), credited);
    let letters: i64 = sqlx::query_scalar("select count(*) from dead_letter")
        .fetch_one(&house.pool)
        .await
        .unwrap();
    assert_eq!(letters, 0);
    for running in running {
        assert!(running.shutdown().await);
    }
}

#[tokio::test]
async fn a_completion_that_overlaps_the_cancellation_that_overtook_it_adds_nothing() {
    let house = House::empty().await;
    let running = house.start().await;
    house.send(&completed("acme")).await;
    house.invoiced(1).await;
    let event = completed("acme");
    let mut other = sqlx::PgConnection::connect(house.space.database_url()).await.unwrap();
    let mut tx = other.begin().await.unwrap();
    sqlx::query("select from invoice_counter for update").execute(&mut *tx).await.unwrap();
    let waits = async |count| statements_wait_for_a_lock(&house.pool, count, PATIENCE).await;
    // The cancellation is first in the queue. By then the completion has seen that there is no
    // invoice.
    house.send(&cancelled(&event)).await;
    waits(1).await;
    house.send(&event).await;
    waits(2).await;
    tx.commit().await.unwrap();
    house.credited(1).await;
    house.wait_until_consumed("billing", 2).await;
    house.send(&completed("acme")).await;
    let invoices = house.invoiced(3).await;
    assert!(gapless(invoices.iter().map(|invoice| invoice.2)), "{invoices:?}");
    assert_eq!(published::<InvoiceIssued>(&house, 3).await.len(), 3);
    running.shutdown().await;
}

#[tokio::test]
async fn numbers_of_credit_notes_have_no_gaps_when_one_is_refused() {
    let house = House::empty().await;
    let running = house.start().await;
    let events: Vec<_> = (0..20).map(|_| completed("acme")).collect();
    for event in &events {
        house.send(event).await;
    }
    house.invoiced(events.len()).await;
    // The schema refuses the address after the number was assigned.
    let spoilt: Vec<_> = events.iter().step_by(5).map(order_of).collect();
    sqlx::query("update invoices set customer_email = 'nobody' where order_id = any($1)")
        .bind(&spoilt)
        .execute(&house.pool)
        .await
        .unwrap();
    for event in &events {
        house.send(&cancelled(event)).await;
    }
    let notes = house.credited(events.len() - spoilt.len()).await;
    assert!(gapless(notes.iter().map(|note| note.2)), "{notes:?}");
    house.records("billing.credits.dlq", spoilt.len()).await;
    assert_eq!(house.credit_notes().await, notes);
    running.shutdown().await;
}

#[tokio::test]
async fn an_event_that_contradicts_itself_or_names_anothers_order_credits_nothing() {
    let house = House::empty().await;
    let running = house.start().await;
    let event = completed("acme");
    house.send(&event).await;
    house.invoiced(1).await;
    let mut contradicting = cancelled(&event);
    let mut data: serde_json::Value = serde_json::from_slice(&contradicting.data).unwrap();
    data["status"] = "completed".into();
    contradicting.data = serde_json::to_vec(&data).unwrap();
    house.send(&contradicting).await;
    let globex = envelope::TenantId::new("globex").unwrap();
    let foreign = cancelled_with(&event, |data| data.order.tenant_id = globex);
    house.send(&foreign).await;
    house.wait_until_consumed("billing.credits", 1).await;
    house.records("billing.credits.dlq", 1).await;
    assert_eq!(house.credit_notes().await, []);
    house.send(&cancelled(&event)).await;
    house.credited(1).await;
    running.shutdown().await;
}
