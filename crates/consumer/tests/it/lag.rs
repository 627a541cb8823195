//! How far a subscription is behind.

use envelope::Event;

use crate::events::{ParcelId, ParcelPacked};
use consumer::{Fault, FaultKind, Options, Subscription};
use sandbox::testing::eventually;

use crate::house::{House, PATIENCE, note};

impl House {
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

    running.faults.set(Some(Fault { kind: FaultKind::Slow, rate: 1.0, delay_ms: 8_000 }));
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
    running.faults.set(Some(Fault { kind: FaultKind::Slow, rate: 1.0, delay_ms: 20_000 }));
    let told = async || (house.gauge("consumer_lag{", "parcel.packed") > 0.0).then_some(());
    eventually("a lag", PATIENCE, told).await;
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
async fn counters_are_there_before_there_is_something_to_count() {
    let house = House::new().await;
    let running = house.run(Subscription::new("group").each_once(note::<ParcelPacked>()));
    let text = house.metrics.render();
    for counter in ["dead_lettered", "retries", "gaps", "unavailable", "settled"] {
        let begins = format!("consumer_{counter}_total{{");
        let line = text.lines().find(|line| line.starts_with(&begins)).unwrap();
        assert!(line.contains("group") && line.ends_with(" 0"), "{line}");
    }
    running.end().await;
}
