use envelope::EventId;

use crate::house::{House, cancelled, completed, completed_to, credited, invoiced};
use crate::sink::Sink;

#[tokio::test]
async fn an_order_gets_its_confirmation_and_its_receipt() {
    let house = House::empty().await;
    let running = house.start().await;
    let completed = completed("acme");
    let issued = invoiced(&completed);
    // The invoice is sent first, since events of different topics may arrive in any order.
    house.send(&issued).await;
    house.send(&completed).await;
    house.until("both e-mails", 2, |row| row.sent).await;

    let order = completed.subject();
    let confirmation = house.file(order, "confirmation");
    for part in [
        format!("Message-ID: <{}@orderflow.example>\r\n", completed.envelope.id),
        "From: Shop <shop@example.com>\r\n".into(),
        "To: ada@example.com\r\n".into(),
        format!("Subject: Your order {order}\r\n"),
        "\r\n\r\nThank you.".into(),
        "Total: EUR 13.50".into(),
    ] {
        assert!(confirmation.contains(&part), "{part} is not in {confirmation}");
    }
    let receipt = house.file(order, "receipt");
    for part in [
        format!("Message-ID: <{}@orderflow.example>\r\n", issued.envelope.id),
        "Subject: Receipt: invoice 17\r\n".into(),
        format!("\r\nOrder {order}\r\n"),
        "Total: EUR 13.50".into(),
    ] {
        assert!(receipt.contains(&part), "{part} is not in {receipt}");
    }
    running.shutdown().await;
}

#[tokio::test]
async fn a_cancelled_order_gets_its_cancellation_and_its_credit_note_once_each() {
    let house = House::empty().await;
    let running = house.start().await;
    let completed = completed("acme");
    let credited = credited(&invoiced(&completed));
    let cancelled = cancelled(&completed);
    // The credit note is sent first, since events of different topics may arrive in any order.
    for event in [&credited, &cancelled] {
        let mut copy = event.clone();
        copy.envelope.id = EventId::generate();
        for event in [event, &copy, event] {
            house.send(event).await;
        }
    }
    house.until("both e-mails", 2, |row| row.sent).await;
    let order = completed.subject();
    let cancellation = house.file(order, "cancellation");
    for part in [
        format!("Message-ID: <{}@orderflow.example>\r\n", cancelled.envelope.id),
        "To: ada@example.com\r\n".into(),
        format!("Subject: Your order {order} is cancelled\r\n"),
        "You will receive a credit note".into(),
    ] {
        assert!(cancellation.contains(&part), "{part} is not in {cancellation}");
    }
    let note = house.file(order, "credit_note");
    for part in [
        format!("Message-ID: <{}@orderflow.example>\r\n", credited.envelope.id),
        "Subject: Credit note 3 for invoice 17\r\n".into(),
        format!("\r\nOrder {order}\r\n"),
        "Credited: EUR 13.50".into(),
    ] {
        assert!(note.contains(&part), "{part} is not in {note}");
    }
    running.shutdown().await;
}

#[tokio::test]
async fn the_same_event_however_often_and_another_of_the_same_order_send_nothing_more() {
    let house = House::empty().await;
    let (sink, port) = Sink::start().await;
    let running = house.start_smtp(port).await;
    let completed = completed("acme");
    for event in [&completed, &invoiced(&completed)] {
        let mut copy = event.clone();
        copy.envelope.id = EventId::generate();
        let mut of_another_source = event.clone();
        of_another_source.envelope.source = "/elsewhere".into();
        for event in [event, event, event, &copy, &of_another_source] {
            house.send(event).await;
        }
        // The marker has the same key, so it is processed after those events.
        let mut marker = completed_to("acme", "marker@example.com");
        if event.envelope.event_type == "invoice.issued" {
            marker = invoiced(&marker);
        }
        marker.envelope.partition_key = event.envelope.subject.clone();
        house.send(&marker).await;
    }
    house.until("four e-mails", 4, |row| row.sent).await;
    assert_eq!(sink.tries("ada@example.com"), 2);
    assert_eq!(sink.deliveries().len(), 4);
    running.shutdown().await;
}

#[tokio::test]
async fn an_address_that_is_none_is_given_up_and_nobody_waits_for_it() {
    let house = House::empty().await;
    let (sink, port) = Sink::start().await;
    let running = house.start_smtp(port).await;
    let injected = "ada@example.com\r\nBcc: eve@example.com";
    let bad = [injected, "\"a\nb\"@example.com", "nobody", ""];
    for to in bad {
        house.send(&completed_to("acme", to)).await;
    }
    house.send(&completed("acme")).await;
    let rows = house.until("five e-mails", 5, |row| row.sent || row.failed).await;
    let failed: Vec<_> = rows.iter().filter(|row| row.failed).collect();
    assert_eq!(failed.len(), bad.len());
    for row in failed {
        let error = row.last_error.as_ref().unwrap();
        assert!(error.contains("is not an e-mail address"), "{error}");
        assert_eq!(row.attempts, 1);
    }
    let deliveries = sink.deliveries();
    assert_eq!(deliveries.len(), 1);
    assert_eq!(deliveries[0].to, ["ada@example.com"]);
    assert!(!deliveries[0].data.contains("eve"));
    running.shutdown().await;
}
