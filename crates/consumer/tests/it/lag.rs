//! How far a subscription is behind.

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
