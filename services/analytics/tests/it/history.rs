use envelope::Encoded;
use events::{CreditNoteId, InvoiceCredited, InvoiceId, InvoiceIssued};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

use crate::house::{House, Story, encoded, get, order, story};

#[tokio::test]
async fn the_history_of_an_order_is_each_event_once_in_the_order_in_which_it_happened() {
    let house = House::empty().await;
    let running = house.start().await;
    let Story { created, updated, completed, cancelled } =
        story("acme", "EUR", 1000, "2026-11-20T12:00:00Z");
    let invoiced = invoice(&completed);
    let credited = credit_note(&cancelled);
    // The latest is sent first, and each is awaited, since topics are consumed concurrently.
    let events = [&credited, &cancelled, &invoiced, &completed, &updated, &created];
    for (n, event) in events.into_iter().enumerate() {
        house.send(event).await;
        house.send(event).await;
        house.wait_until_consumed("analytics.history", n + 1).await;
    }

    let path = format!("/orders/{}/history", created.subject());
    let (status, mut body) = get(&running, &path, "demo-acme").await;
    assert_eq!(status, 200, "{body}");
    for entry in body["history"].as_array_mut().unwrap() {
        assert!(entry.as_object_mut().unwrap().remove("received_at").unwrap().is_string());
    }
    let history = [&created, &updated, &completed, &invoiced, &cancelled, &credited].map(entry);
    assert_eq!(
        body,
        json!({"order_id": created.envelope.subject, "history": history, "next_cursor": null})
    );
    running.shutdown().await;
}

/// Billing's events have the version of the change that caused them, and the clock of another
/// machine.
#[tokio::test]
async fn an_effect_follows_its_cause_whatever_the_clocks_say() {
    let house = House::empty().await;
    let running = house.start().await;
    let Story { completed, cancelled, .. } = story("acme", "EUR", 1000, "2026-11-20T12:00:00Z");
    let caused = |mut effect: Encoded, cause: &Encoded| {
        effect.envelope.source = "/billing".into();
        effect.envelope.causation_id = Some(cause.envelope.id.clone());
        effect.envelope.time = cause.envelope.time.map(|at| at - Duration::milliseconds(5));
        effect
    };
    let invoiced = caused(invoice(&completed), &completed);
    let credited = caused(credit_note(&cancelled), &cancelled);
    let events = [&completed, &invoiced, &cancelled, &credited];
    for event in events {
        house.send(event).await;
    }
    house.wait_until_consumed("analytics.history", events.len()).await;

    let expected = events.map(|event| Value::from(event.envelope.id.as_str()));
    let path = format!("/orders/{}/history", completed.subject());
    for limit in [1, 2, 3, 100] {
        let (mut ids, mut query) = (Vec::new(), format!("limit={limit}"));
        loop {
            let (status, body) = get(&running, &format!("{path}?{query}"), "demo-acme").await;
            assert_eq!(status, 200, "{body}");
            let entries = body["history"].as_array().unwrap();
            ids.extend(entries.iter().map(|entry| entry["event_id"].clone()));
            let Some(cursor) = body["next_cursor"].as_str() else { break };
            query = format!("limit={limit}&cursor={cursor}");
        }
        assert_eq!(ids, expected, "{limit}");
    }
    running.shutdown().await;
}

#[tokio::test]
async fn the_history_of_an_order_is_its_tenants_alone() {
    let house = House::empty().await;
    let running = house.start().await;
    let story = story("acme", "EUR", 1000, "2026-11-20T12:00:00Z");
    house.send(&story.created).await;
    house.wait_until_consumed("analytics.history", 1).await;
    let own = format!("/orders/{}/history", story.created.subject());
    let unknown = format!("/orders/{}/history", order("acme", "EUR").order_id);
    for (path, key, status) in [
        (&*own, "demo-acme", 200),
        (&own, "demo-globex", 404),
        (&unknown, "demo-acme", 404),
        ("/orders/17/history", "demo-acme", 404),
        (&own, "nobody", 401),
        (&own, "sender", 401),
    ] {
        let (answered, body) = get(&running, path, key).await;
        assert_eq!(answered, status, "{path} {key}: {body}");
    }
    running.shutdown().await;
}

#[tokio::test]
async fn a_history_is_paged_also_where_events_have_no_version_or_time() {
    let house = House::empty().await;
    let running = house.start().await;
    let order = order("acme", "EUR").order_id;
    // Versions, times, causes and ids repeat. Only source and id together identify a row.
    sqlx::query(
        "insert into history
             (order_id, tenant_id, version, event_type, source, event_id, correlation_id, causation_id, at)
         select $1, 'acme', nullif(n / 4, 5), 't', '/s' || n % 2, (n / 2)::text, 'c',
                case when n % 4 > 1 then 'e' end,
                case when n % 3 > 0 then timestamptz '2026-11-20' + n % 5 * interval '1 s' end
         from generate_series(0, 22) as n",
    )
    .bind(order.0)
    .execute(&house.pool)
    .await
    .unwrap();
    let path = format!("/orders/{order}/history");
    let page = async |query: &str| {
        let (status, body) = get(&running, &format!("{path}?{query}"), "demo-acme").await;
        assert_eq!(status, 200, "{body}");
        (body["history"].as_array().unwrap().clone(), body["next_cursor"].clone())
    };
    let (all, end) = page("limit=100").await;
    assert_eq!((all.len(), &end), (23, &Value::Null));
    assert!(all[20..].iter().all(|entry| entry["version"].is_null()), "{all:?}");
    assert_eq!(page("").await.0.len(), 20);
    for limit in [1, 4, 22] {
        let (mut paged, mut cursor) = page(&format!("limit={limit}")).await;
        while let Some(next) = cursor.as_str() {
            let (rows, further) = page(&format!("limit={limit}&cursor={next}")).await;
            paged.extend(rows);
            cursor = further;
        }
        assert_eq!(paged, all, "{limit}");
    }
    let (_, cursor) = page("limit=1").await;
    let query = format!("cursor={}", cursor.as_str().unwrap());
    for (path, key, status) in [
        (format!("{path}?limit=0"), "demo-acme", 400),
        (format!("{path}?cursor=x"), "demo-acme", 400),
        (format!("{path}?{query}"), "demo-globex", 400),
        (format!("/orders/{}/history?{query}", events::OrderId::new()), "demo-acme", 400),
    ] {
        let (answered, body) = get(&running, &path, key).await;
        assert_eq!(answered, status, "{path} {key}: {body}");
    }
    running.shutdown().await;
}

fn entry(event: &Encoded) -> Value {
    let envelope = &event.envelope;
    // Postgres stores microseconds.
    let at = envelope.time.unwrap();
    let at = at.replace_nanosecond(at.microsecond() * 1000).unwrap();
    json!({
        "type": envelope.event_type,
        "version": envelope.version,
        "event_id": envelope.id,
        "correlation_id": envelope.correlation_id,
        "at": at.format(&time::format_description::well_known::Rfc3339).unwrap(),
    })
}

/// Returns billing's event for a completed order, at the same version.
fn invoice(completed: &Encoded) -> Encoded {
    let order = serde_json::from_slice::<events::OrderCompleted>(&completed.data).unwrap().order;
    let invoice = InvoiceIssued {
        invoice_id: InvoiceId::new(),
        order_id: order.order_id,
        tenant_id: order.tenant_id,
        number: 1,
        customer_email: order.customer_email,
        currency: order.currency,
        total: order.total,
        issued_at: OffsetDateTime::now_utc(),
    };
    encoded(completed.envelope.version.unwrap(), invoice)
}

/// Returns billing's event for a cancelled order, at the same version.
fn credit_note(cancelled: &Encoded) -> Encoded {
    let order = serde_json::from_slice::<events::OrderCancelled>(&cancelled.data).unwrap().order;
    let credited = InvoiceCredited {
        credit_note_id: CreditNoteId::new(),
        number: 1,
        invoice_id: InvoiceId::new(),
        invoice_number: 1,
        order_id: order.order_id,
        tenant_id: order.tenant_id,
        customer_email: order.customer_email,
        currency: order.currency,
        total: order.total,
        credited_at: OffsetDateTime::now_utc(),
    };
    encoded(cancelled.envelope.version.unwrap(), credited)
}
