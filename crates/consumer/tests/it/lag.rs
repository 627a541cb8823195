//! Tests of a subscription's lag.

use envelope::Event;

use crate::events::{ParcelId, ParcelPacked};
use consumer::{Fault, FaultKind, Options, State, Subscription};
use sandbox::testing::eventually;

use crate::house::{House, PATIENCE, note};

impl House {
    fn lag_is(&self, messages: f64) -> bool {
        (self.gauge("consumer_lag{", "parcel.packed") - messages).abs() < 0.5
    }

    fn gauge(&self, name: &str, label: &str) -> f64 {
        let text = self.metrics.render();
        let lines = text.lines().filter(|line| line.starts_with(name) && line.contains(label));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }
}

#[tokio::test]
async fn lag_and_its_age_rise_while_nothing_is_dealt_with_and_are_gone_after() {
    let house = House::new().await;
    let patient = Options { handler_timeout: PATIENCE, ..House::options() };
    let subscription = Subscription::new("group").each_once(note::<ParcelPacked>());
    let running = house.run_with(patient, subscription);
    let first = ParcelId::new();
    house.send::<ParcelPacked>(first, 1, "a@example.com").await;
    house.has(first, &[1]).await;

    running.faults.set(Some(Fault { delay_ms: 8_000, ..Fault::new(FaultKind::Slow) }));
    for _ in 0..20 {
        house.send::<ParcelPacked>(ParcelId::new(), 1, "a@example.com").await;
    }
    let behind = async || {
        let lag = house.gauge("consumer_lag{", "parcel.packed");
        (lag >= 1.0 && house.gauge("consumer_lag_age_seconds", "group") > 1.0).then_some(lag)
    };
    let lag = eventually("a lag", PATIENCE, behind).await;
    assert!(lag <= 20.0, "{lag}");

    running.faults.set(None);
    let gone = async || {
        let lag = house.gauge("consumer_lag{", "parcel.packed");
        (lag == 0.0 && house.gauge("consumer_lag_age_seconds", "group") == 0.0).then_some(())
    };
    eventually("no lag", PATIENCE, gone).await;
    running.end().await;
}

#[tokio::test]
async fn a_group_that_has_finished_nothing_is_behind_by_all_there_is() {
    let house = House::new().await;
    for _ in 0..20 {
        house.send::<ParcelPacked>(ParcelId::new(), 1, "a@example.com").await;
    }
    let patient = Options { handler_timeout: PATIENCE, ..House::options() };
    let subscription = Subscription::new("group").each_once(note::<ParcelPacked>());
    let running = house.run_with(patient, subscription);
    running.faults.set(Some(Fault { delay_ms: 20_000, ..Fault::new(FaultKind::Slow) }));
    let is_measured = async || (house.gauge("consumer_lag{", "parcel.packed") > 0.0).then_some(());
    eventually("a lag", PATIENCE, is_measured).await;
    let lag = house.gauge("consumer_lag{", "parcel.packed");
    assert!((lag - 20.0).abs() < 0.5, "{lag}");
    running.shutdown.cancel();
}

#[tokio::test]
async fn the_marker_of_a_transaction_is_no_message_that_is_waited_for() {
    let house = House::new().await;
    let running = house.run(Subscription::new("group").each_once(note::<ParcelPacked>()));
    house.processes_one().await;
    let parcel = ParcelId::new();
    let event = house.event::<ParcelPacked>(parcel, 1, "a@example.com");
    house.publish_in_transaction(&event).await;
    house.has(parcel, &[1]).await;
    let committed = async || {
        let (committed, end) = house.committed_and_end("group", ParcelPacked::TYPE);
        (committed == end && house.gauge("consumer_lag{", "parcel.packed") == 0.0).then_some(end)
    };
    eventually("the marker to be behind", PATIENCE, committed).await;
    running.end().await;
}

#[tokio::test]
async fn messages_that_were_deleted_before_they_were_read_are_counted() {
    let house = House::new().await;
    let running = house.run(Subscription::new("group").each_once(note::<ParcelPacked>()));
    let parcel = ParcelId::new();
    house.send::<ParcelPacked>(parcel, 1, "a@example.com").await;
    // The offset of the transaction's marker must not count as a lost message.
    house.publish_in_transaction(&house.event::<ParcelPacked>(parcel, 2, "a@example.com")).await;
    house.send::<ParcelPacked>(parcel, 3, "a@example.com").await;
    house.has(parcel, &[1, 2, 3]).await;

    consumer::pause(&house.pool, "group", "ada", "a look").await.unwrap();
    let paused = async || matches!(running.status.state(), State::Paused { .. }).then_some(());
    eventually("the pause", PATIENCE, paused).await;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    for version in 4..=8 {
        house.send::<ParcelPacked>(parcel, version, "a@example.com").await;
    }
    house.delete_records(ParcelPacked::TYPE).await;
    house.send::<ParcelPacked>(parcel, 9, "a@example.com").await;
    consumer::resume(&house.pool, "group").await.unwrap();
    house.has(parcel, &[1, 2, 3, 9]).await;
    let counted = async || (house.counter("consumer_lost_total", "group") == 5).then_some(());
    eventually("five lost messages", PATIENCE, counted).await;
    running.end().await;
}

#[tokio::test]
async fn messages_that_were_deleted_while_the_group_was_away_are_counted() {
    let house = House::new().await;
    let run = || house.run(Subscription::new("group").each_once(note::<ParcelPacked>()));
    let running = run();
    let parcel = ParcelId::new();
    house.send::<ParcelPacked>(parcel, 1, "a@example.com").await;
    house.has(parcel, &[1]).await;
    running.end().await;
    for version in 2..=4 {
        house.send::<ParcelPacked>(parcel, version, "a@example.com").await;
    }
    house.delete_records(ParcelPacked::TYPE).await;
    house.send::<ParcelPacked>(parcel, 5, "a@example.com").await;
    let running = run();
    house.has(parcel, &[1, 5]).await;
    let counted = async || (house.counter("consumer_lost_total", "group") == 3).then_some(());
    eventually("three lost messages", PATIENCE, counted).await;
    running.end().await;
}

#[tokio::test]
async fn counters_are_there_before_there_is_something_to_count() {
    let house = House::new().await;
    let running = house.run(Subscription::new("group").each_once(note::<ParcelPacked>()));
    let text = house.metrics.render();
    for counter in ["dead_lettered", "retries", "gaps", "lost", "unavailable", "settled"] {
        let begins = format!("consumer_{counter}_total{{");
        let line = text.lines().find(|line| line.starts_with(&begins)).unwrap();
        assert!(line.contains("group") && line.ends_with(" 0"), "{line}");
    }
    running.end().await;
}

#[tokio::test]
async fn what_is_paused_falls_behind_and_says_so() {
    let house = House::new().await;
    let running = house.run(Subscription::new("group").each_once(note::<ParcelPacked>()));
    house.processes_one().await;
    consumer::pause(&house.pool, "group", "ada", "a look").await.unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    for _ in 0..15 {
        house.send::<ParcelPacked>(ParcelId::new(), 1, "a@example.com").await;
    }
    let behind = async || house.lag_is(15.0).then_some(());
    eventually("a lag of 15", PATIENCE, behind).await;
    // The statistics of the client do not know it, and must not say otherwise.
    for _ in 0..12 {
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        assert!(house.lag_is(15.0));
    }
    running.end().await;
}

#[tokio::test]
async fn a_partition_that_went_to_another_instance_is_measured_there_alone() {
    let house = House::new().await;
    let patient = Options { handler_timeout: PATIENCE, ..House::options() };
    let subscription = || Subscription::new("group").each_once(note::<ParcelPacked>());
    let one = house.run_with(patient.clone(), subscription());
    house.processes_one().await;
    one.faults.set(Some(Fault { delay_ms: 60_000, ..Fault::new(FaultKind::Slow) }));
    for _ in 0..40 {
        house.send::<ParcelPacked>(ParcelId::new(), 1, "a@example.com").await;
    }
    let behind = async || house.lag_is(40.0).then_some(());
    eventually("a lag of 40", PATIENCE, behind).await;
    // Measured apart, as by a process of its own.
    let metrics = telemetry::Metrics::new("other");
    let consumer = consumer::Consumer::new(
        subscription(),
        house.pool.clone(),
        house.settings.clone(),
        &metrics.meter("consumer"),
    );
    let shutdown = tokio_util::sync::CancellationToken::new();
    let other = tokio::spawn(consumer.run(shutdown.clone()));
    let fewer = async || {
        let lag = house.gauge("consumer_lag{", "parcel.packed");
        (0.0 < lag && lag < 40.0).then_some(())
    };
    eventually("a lag of what is left alone", PATIENCE, fewer).await;
    one.faults.set(None);
    let gone = async || (house.gauge("consumer_lag{", "parcel.packed") == 0.0).then_some(());
    eventually("no lag", PATIENCE * 3, gone).await;
    shutdown.cancel();
    other.await.unwrap();
    one.end().await;
}
