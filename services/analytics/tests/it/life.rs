//! Random histories of orders: their rows in the order service, and their events.

use envelope::Encoded;
use events::{Order, OrderCompleted, OrderCreated, OrderStatus, OrderUpdated};
use fastrand::Rng;
use time::{Duration, OffsetDateTime, UtcOffset};

use crate::house::{cancelled, encoded, order};

/// Final state of an order: its row in the order service.
pub(crate) struct Row {
    pub(crate) order: Order,
    pub(crate) completed_at: Option<OffsetDateTime>,
    pub(crate) cancelled: bool,
}

/// Returns an order that is changed up to four times, perhaps completed and perhaps cancelled, with
/// all its events.
pub(crate) fn life(random: &mut Rng) -> (Row, Vec<Encoded>) {
    let tenants = ["acme", "globex"];
    let currencies = ["EUR", "JPY", "USD"];
    let mut order = order(tenants[random.usize(..2)], currencies[random.usize(..3)]);
    order.total = random.i64(1..1_000_000);
    let mut events = vec![encoded(1, OrderCreated(order.clone()))];
    for version in 2..=random.i64(1..=5) {
        order.total = random.i64(1..1_000_000);
        events.push(encoded(version, OrderUpdated(order.clone())));
    }
    let completed_at = random.bool().then(|| time_of_completion(random));
    if let Some(completed_at) = completed_at {
        order.status = OrderStatus::Completed;
        let version = i64::try_from(events.len()).unwrap() + 1;
        events.push(encoded(version, OrderCompleted { order: order.clone(), completed_at }));
    }
    let is_cancelled = random.u8(..3) == 0;
    if is_cancelled {
        let version = i64::try_from(events.len()).unwrap() + 1;
        events.push(encoded(version, cancelled(order.clone(), completed_at)));
    }
    (Row { order, completed_at, cancelled: is_cancelled }, events)
}

/// Returns a time within four days, often near midnight, in any time zone.
fn time_of_completion(random: &mut Rng) -> OffsetDateTime {
    let midnight = OffsetDateTime::UNIX_EPOCH + Duration::days(20_000 + random.i64(0..4));
    let of_day = [0, 1, random.i64(0..86_400_000), 86_399_999][random.usize(..4)];
    let zone = UtcOffset::from_whole_seconds(random.i32(-12..=12) * 3600).unwrap();
    (midnight + Duration::milliseconds(of_day)).to_offset(zone)
}
