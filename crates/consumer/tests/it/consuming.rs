//! What a message comes to.

use crate::events::{ParcelId, ParcelPacked, ParcelShipped};
use consumer::{Failure, Fault, FaultKind, Handler, Received, State, Subscription};
use kafka::rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use kafka::rdkafka::client::DefaultClientContext;
use kafka::{Coordinates, dead_letter_topic};
use sandbox::testing::eventually;
use sqlx::PgConnection;
use std::sync::atomic::Ordering;

use crate::house::{CUSTOMER, House, Note, PATIENCE, create, io, note, troubled};

#[tokio::test]
async fn a_duplicate_has_no_second_effect() {
    let house = House::new().await;
    let running = house.run(Subscription::new("group").each_once(note::<ParcelPacked>()));
    let parcel = ParcelId::new();
    house.send_times::<ParcelPacked>(5, parcel, 1, "a@example.com").await;
    house.send::<ParcelPacked>(parcel, 2, "a@example.com").await;
    house.has(parcel, &[1, 2]).await;
    assert_eq!(house.counter("consumer_settled_total", "duplicate"), 4);
    running.end().await;
}

#[tokio::test]
async fn the_latest_wins_and_a_gap_is_counted_not_waited_for() {
    let house = House::new().await;
    let running = house.run(
        Subscription::new("analytics")
            .latest_wins(note::<ParcelPacked>())
            .latest_wins(note::<ParcelShipped>()),
    );
    let parcel = ParcelId::new();
    house.send::<ParcelShipped>(parcel, 3, "a@example.com").await;
    house.has(parcel, &[3]).await;
    house.send::<ParcelPacked>(parcel, 1, "a@example.com").await;
    house.send::<ParcelPacked>(parcel, 4, "a@example.com").await;
    house.has(parcel, &[3, 4]).await;
    let superseded =
        async || (house.counter("consumer_settled_total", "superseded") == 1).then_some(());
    eventually("one superseded", PATIENCE, superseded).await;
    assert_eq!(house.counter("consumer_gaps_total", ""), 1, "version 3 came without 1 and 2");
    let outcomes: Vec<String> = sqlx::query_scalar("select outcome from inbox order by outcome")
        .fetch_all(&house.pool)
        .await
        .unwrap();
    assert_eq!(outcomes, ["processed", "processed", "superseded"]);
    running.end().await;
}

#[tokio::test]
async fn each_once_takes_what_comes_late() {
    let house = House::new().await;
    let running = house.run(Subscription::new("history").each_once(note::<ParcelPacked>()));
    let parcel = ParcelId::new();
    house.send::<ParcelPacked>(parcel, 2, "a@example.com").await;
    house.send::<ParcelPacked>(parcel, 1, "a@example.com").await;
    house.has(parcel, &[2, 1]).await;
    running.end().await;
}

#[tokio::test]
async fn a_key_that_is_retried_keeps_its_order_and_holds_up_nobody_else() {
    let house = House::new().await;
    let handler = troubled::<ParcelPacked>(3, || Failure::transient(io()));
    let running = house.run(Subscription::new("group").each_once(handler));
    let parcel = ParcelId::new();
    for version in 1..=3 {
        house.send::<ParcelPacked>(parcel, version, CUSTOMER).await;
    }
    let others: Vec<_> = (0..20).map(|_| ParcelId::new()).collect();
    for other in &others {
        house.send::<ParcelPacked>(*other, 1, "a@example.com").await;
    }
    for other in &others {
        house.has(*other, &[1]).await;
    }
    house.has(parcel, &[1, 2, 3]).await;
    assert_eq!(house.counter("consumer_retries_total", ""), 3);
    assert_eq!(house.counter("consumer_dead_lettered_total", ""), 0);
    running.end().await;
}

#[tokio::test]
async fn what_is_unavailable_to_one_handler_parks_its_key_uncounted_and_says_so() {
    let house = House::new().await;
    let handler = troubled::<ParcelPacked>(6, || Failure::unavailable(io()));
    let running = house.run(Subscription::new("group").each_once(handler));
    let parcel = ParcelId::new();
    house.send::<ParcelPacked>(parcel, 1, CUSTOMER).await;
    let told = "troubled: 1 key is parked: made for the test";
    let parked = async || (running.status.state().to_string() == told).then_some(());
    eventually("the state to say so", PATIENCE, parked).await;
    let other = ParcelId::new();
    house.send::<ParcelPacked>(other, 1, "a@example.com").await;
    house.has(other, &[1]).await;
    assert_eq!(house.effects(parcel).await, Vec::<i64>::new(), "it waits, and others go on");
    house.has(parcel, &[1]).await;
    let running_again = async || (running.status.state() == State::Running).then_some(());
    eventually("the state to be well again", PATIENCE, running_again).await;
    assert_eq!(house.counter("consumer_dead_lettered_total", ""), 0);
    assert_eq!(house.counter("consumer_unavailable_total", ""), 6);
    running.end().await;
}

#[tokio::test]
async fn a_handler_that_takes_too_long_is_rolled_back_and_retried() {
    struct Slow(Note<ParcelPacked>);
    impl Handler for Slow {
        type Event = ParcelPacked;
        async fn handle(
            &self,
            tx: &mut PgConnection,
            events: &[Received<ParcelPacked>],
        ) -> Result<(), Failure> {
            if self.0.times.fetch_add(1, Ordering::SeqCst) == 0 {
                sqlx::query("insert into effect (subject) values ('half')")
                    .execute(&mut *tx)
                    .await?;
                std::future::pending::<()>().await;
            }
            self.0.times.store(0, Ordering::SeqCst);
            self.0.handle(tx, events).await
        }
    }
    let house = House::new().await;
    let running = house.run(Subscription::new("group").each_once(Slow(note())));
    let parcel = ParcelId::new();
    house.send::<ParcelPacked>(parcel, 1, "a@example.com").await;
    house.has(parcel, &[1]).await;
    assert_eq!(house.counter("consumer_retries_total", ""), 1);
    let halves: i64 = sqlx::query_scalar("select count(*) from effect where subject = 'half'")
        .fetch_one(&house.pool)
        .await
        .unwrap();
    assert_eq!(halves, 0);
    running.end().await;
}

#[tokio::test]
async fn nothing_is_consumed_while_a_dead_letter_cannot_be_written() {
    let house = House::new().await;
    create(&house.settings, dead_letter_topic("group").max_record_bytes(100)).await;
    let handler = troubled::<ParcelPacked>(1, || Failure::permanent(io()));
    let running = house.run(Subscription::new("group").each_once(handler));
    house.send::<ParcelPacked>(ParcelId::new(), 1, CUSTOMER).await;
    let consumed = async |messages: u64| {
        (house.counter("messaging_client_consumed_messages_total", "") == messages).then_some(())
    };
    // Before it consumes it may halt for another reason: brokers that are slow to tell of their retention.
    eventually("the message to arrive", PATIENCE, async || consumed(1).await).await;
    let halted = async || matches!(running.status.state(), State::Halted(_)).then_some(());
    eventually("the consumer to halt", PATIENCE, halted).await;
    let parcel = ParcelId::new();
    house.send::<ParcelPacked>(parcel, 1, "a@example.com").await;
    eventually("the next message to arrive", PATIENCE, async || consumed(2).await).await;
    assert!(house.effects(parcel).await.is_empty(), "it is not worked on");

    let admin: AdminClient<DefaultClientContext> = house.settings.client().create().unwrap();
    let dlq = house.settings.prefixed("group.dlq");
    let wider =
        AlterConfig::new(ResourceSpecifier::Topic(&dlq)).set("max.message.bytes", "1000000");
    admin.alter_configs([&wider], &AdminOptions::new()).await.unwrap().remove(0).unwrap();
    house.has(parcel, &[1]).await;
    assert_eq!(house.counter("consumer_dead_lettered_total", ""), 1);
    let state = running.status.state();
    assert!(!matches!(state, State::Halted(_)), "{state}");
    running.end().await;
}

#[tokio::test]
async fn a_replay_is_told_what_became_of_it_and_keeps_its_identity() {
    let house = House::new().await;
    let handler = troubled::<ParcelPacked>(2, || Failure::permanent(io()));
    let running = house.run(Subscription::new("group").each_once(handler));
    let parcel = ParcelId::new();
    house.send::<ParcelPacked>(parcel, 1, CUSTOMER).await;
    let letter = house.first("group.dlq").await;
    let origin = Coordinates::carried_by(&letter).unwrap();

    let (outcome, reason) = house.replay(&letter, "r-1").await;
    assert_eq!((outcome.as_str(), reason.as_deref()), ("failed", Some("made for the test")));
    assert!(consumer::recovered(&house.pool, "group").await.unwrap().is_empty());
    assert_eq!(house.counter("consumer_dead_lettered_total", ""), 2, "it is a dead letter again");

    assert_eq!(house.replay(&letter, "r-2").await.0, "processed");
    assert_eq!(house.replay(&letter, "r-3").await.0, "duplicate");
    house.has(parcel, &[1]).await;
    let recovered = consumer::recovered(&house.pool, "group").await.unwrap();
    assert_eq!(recovered.len(), 1);
    let one = &recovered[0];
    assert_eq!(
        (&one.topic, one.partition, one.offset),
        (&origin.topic, origin.partition, origin.offset)
    );
    running.end().await;
}

#[tokio::test]
async fn what_was_replayed_in_vain_too_often_is_parked() {
    let house = House::new().await;
    let handler = troubled::<ParcelPacked>(6, || Failure::permanent(io()));
    let running = house.run(Subscription::new("group").each_once(handler));
    let parcel = ParcelId::new();
    house.send::<ParcelPacked>(parcel, 1, CUSTOMER).await;
    let letter = house.first("group.dlq").await;
    for replay in 1..=5 {
        assert_eq!(house.replay(&letter, &format!("r-{replay}")).await.0, "failed");
    }
    let (outcome, reason) = house.replay(&letter, "r-6").await;
    assert_eq!(outcome, "parked", "though it would succeed by now");
    assert!(reason.unwrap().contains("5 times"));
    assert!(house.effects(parcel).await.is_empty());
    assert_eq!(house.counter("consumer_dead_lettered_total", ""), 6, "and is no new dead letter");
    running.end().await;
}

#[tokio::test]
async fn a_replay_does_not_make_an_event_right_that_lay_on_the_wrong_topic() {
    let house = House::new().await;
    let subscription = Subscription::new("group")
        .each_once(note::<ParcelPacked>())
        .each_once(note::<ParcelShipped>());
    let running = house.run(subscription);
    let parcel = ParcelId::new();
    house.send_to::<ParcelPacked>("parcel.shipped", parcel).await;
    let letter = house.first("group.dlq").await;
    let (outcome, reason) = house.replay(&letter, "r-1").await;
    assert_eq!(outcome, "failed");
    assert!(reason.unwrap().contains("does not belong on the topic parcel.shipped"));
    running.end().await;
}

#[tokio::test]
async fn a_fault_that_is_set_strikes_until_it_is_healed() {
    let house = House::new().await;
    let running = house.run(Subscription::new("group").each_once(note::<ParcelPacked>()));
    running.faults.set(Some(Fault::new(FaultKind::Permanent)));
    let (broken, healed) = (ParcelId::new(), ParcelId::new());
    house.send::<ParcelPacked>(broken, 1, "a@example.com").await;
    house.first("group.dlq").await;
    running.faults.set(None);
    house.send::<ParcelPacked>(healed, 1, "a@example.com").await;
    house.has(healed, &[1]).await;
    assert!(house.effects(broken).await.is_empty());
    running.end().await;
}

#[tokio::test]
async fn a_new_generation_hears_everything_again() {
    let house = House::new().await;
    let parcel = ParcelId::new();
    house.send::<ParcelPacked>(parcel, 1, "a@example.com").await;
    let first = house.run(Subscription::new("group").each_once(note::<ParcelPacked>()));
    house.has(parcel, &[1]).await;
    let second =
        house.run(Subscription::new("group").generation(2).each_once(note::<ParcelPacked>()));
    house.has(parcel, &[1, 1]).await;
    first.end().await;
    second.end().await;
}
