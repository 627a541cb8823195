use std::collections::HashSet;
use std::time::{Duration, Instant};

use sandbox::testing::eventually;
use tokio::net::TcpListener;

use crate::house::{House, PATIENCE, completed, completed_to};
use crate::sink::Sink;

#[tokio::test]
async fn the_mail_server_gets_it_with_its_envelope() {
    let house = House::empty().await;
    let (sink, port) = Sink::start().await;
    let running = house.start_smtp(port).await;
    let event = completed("acme");
    house.send(&event).await;
    house.until("the e-mail", 1, |row| row.sent && row.attempts == 1).await;
    let delivery = &sink.deliveries()[0];
    assert_eq!(
        (delivery.from.as_str(), &delivery.to[..]),
        ("shop@example.com", &["ada@example.com".to_owned()][..])
    );
    let message_id = format!("<{}@orderflow.example>", event.envelope.id);
    assert_eq!(delivery.header("Message-ID"), message_id);
    assert!(delivery.data.contains("Total: EUR 13.50"), "{}", delivery.data);
    running.shutdown().await;
}

#[tokio::test]
async fn what_is_refused_for_good_is_not_tried_again_and_the_rest_is() {
    let house = House::empty().await;
    let (sink, port) = Sink::start().await;
    let running = house.start_smtp(port).await;
    for to in
        ["refused@example.com", "stranger@example.com", "later@example.com", "ada@example.com"]
    {
        house.send(&completed_to("acme", to)).await;
    }
    let stranger_again = async || (sink.tries("stranger@example.com") >= 2).then_some(());
    eventually("a second try at the stranger", PATIENCE, stranger_again).await;
    let rows =
        house.until("four e-mails", 4, |row| row.sent || row.failed || row.attempts > 1).await;
    let failed: Vec<_> = rows.iter().filter(|row| row.failed).collect();
    assert_eq!(failed.len(), 1);
    let error = failed[0].last_error.as_ref().unwrap();
    assert!(error.contains("550") && error.contains("and never was"), "{error}");
    assert_eq!(sink.tries("refused@example.com"), 1);
    let waiting = rows.iter().find(|row| !row.sent && !row.failed).unwrap();
    let error = waiting.last_error.as_ref().unwrap();
    assert!(error.contains("530") && error.contains("log in"), "{error}");
    assert_eq!(rows.iter().filter(|row| row.sent && row.last_error.is_none()).count(), 2);

    let mut later = sink.deliveries();
    later.retain(|delivery| delivery.to == ["later@example.com"]);
    assert_eq!(later.iter().map(|delivery| delivery.accepted).collect::<Vec<_>>(), [false, true]);
    assert_eq!(later[0].data, later[1].data, "each time the same message, id and date included");
    running.shutdown().await;
}

#[tokio::test]
async fn a_mail_server_that_is_away_keeps_no_message_waiting_and_gets_all_when_it_is_back() {
    const ORDERS: usize = 20;
    let house = House::empty().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let running = house.start_smtp(address.port()).await;
    for _ in 0..ORDERS {
        house.send(&completed("acme")).await;
    }
    let rows = house.until("tries in vain", ORDERS, |row| row.last_error.is_some()).await;
    assert!(rows.iter().all(|row| !row.sent && !row.failed), "{rows:?}");
    let refused = rows[0].last_error.clone().unwrap();
    assert!(refused.contains("refused"), "{refused}");

    let sink = Sink::serve(TcpListener::bind(address).await.unwrap());
    let sent = house.until("all sent", ORDERS, |row| row.sent).await;
    assert!(sent.iter().all(|row| row.attempts > 1 && row.last_error.is_none()), "{sent:?}");
    assert_eq!(sink.deliveries().len(), ORDERS);
    running.shutdown().await;
}

#[tokio::test]
async fn a_mail_server_that_hangs_holds_up_nobody_but_its_own_e_mails() {
    let house = House::empty().await;
    let (sink, port) = Sink::start().await;
    let running = house.start_smtp(port).await;
    for _ in 0..8 {
        house.send(&completed_to("acme", "hanging@example.com")).await;
    }
    let hangs = async || (sink.tries("hanging@example.com") > 1).then_some(());
    eventually("a server that hangs", PATIENCE, hangs).await;
    let began = Instant::now();
    house.send(&completed("globex")).await;
    let delivered = async || (sink.deliveries().len() == 1).then_some(());
    eventually("another tenant's e-mail", PATIENCE, delivered).await;
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    assert!(running.shutdown().await, "it drains in time");
}

#[tokio::test]
async fn a_mail_server_that_accepts_slowly_gets_each_e_mail_once() {
    let house = House::empty().await;
    let (sink, port) = Sink::start().await;
    let running = house.start_smtp(port).await;
    house.send(&completed_to("acme", "scanned@example.com")).await;
    let sent = house.until("sent", 1, |row| row.sent || row.last_error.is_some()).await;
    assert!(sent[0].sent, "{sent:?}");
    assert_eq!(sink.deliveries().len(), 1);
    running.shutdown().await;
}

#[tokio::test]
async fn what_a_mail_server_said_counts_even_if_it_does_not_say_goodbye() {
    let house = House::empty().await;
    let (sink, port) = Sink::start().await;
    let running = house.start_smtp(port).await;
    for to in ["mute@example.com", "mute.refused@example.com"] {
        house.send(&completed_to("acme", to)).await;
    }
    let settled = house.until("both settled", 2, |row| row.sent || row.failed).await;
    assert_eq!(settled.iter().filter(|row| row.sent).count(), 1, "{settled:?}");
    assert_eq!((sink.deliveries().len(), sink.tries("mute.refused@example.com")), (1, 1));
    running.shutdown().await;
}

#[tokio::test]
async fn a_mail_server_that_is_out_of_service_is_tried_again() {
    let house = House::empty().await;
    let (sink, port) = Sink::start().await;
    sink.turns_away(1);
    let running = house.start_smtp(port).await;
    house.send(&completed("acme")).await;
    let settled = house.until("settled", 1, |row| row.sent || row.failed).await;
    assert!(settled[0].sent && settled[0].attempts > 1, "{settled:?}");
    running.shutdown().await;
}

#[tokio::test]
async fn two_instances_do_not_send_the_same_one() {
    const ORDERS: usize = 200;
    let house = House::empty().await;
    let (sink, port) = Sink::start().await;
    let (one, other) = (house.start_smtp(port).await, house.start_smtp(port).await);
    for _ in 0..ORDERS {
        house.send(&completed("acme")).await;
    }
    house.until("all sent", ORDERS, |row| row.sent).await;
    let deliveries = sink.deliveries();
    let ids: HashSet<_> = deliveries.iter().map(|delivery| delivery.header("Message-ID")).collect();
    assert_eq!((deliveries.len(), ids.len()), (ORDERS, ORDERS));
    one.shutdown().await;
    other.shutdown().await;
}
