//! Tests of orders for all instances: an operator's pause, and circuit breakers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use consumer::{
    Dropped, Failure, Fault, FaultKind, Handler, Options, Received, Standing, State, Subscription,
};
use envelope::Event;
use kafka::dead_letter_topic;
use kafka::rdkafka::consumer::{BaseConsumer, Consumer as _};
use kafka::rdkafka::groups::GroupInfo;
use sandbox::testing::eventually;
use sqlx::PgConnection;

use crate::events::{ParcelEvent, ParcelId, ParcelPacked, ParcelShipped};
use crate::house::{CUSTOMER, House, PATIENCE, Running, io, note, troubled};

/// Maximum time in which an instance has to stop after an order.
const OBEYED_WITHIN: Duration = Duration::from_secs(1);

const FINE: &str = "a@example.com";

impl House {
    async fn standing(&self) -> Standing {
        consumer::standing(&self.pool, "group").await.unwrap()
    }

    /// Waits until a group has this number of members, and has not rebalanced for a while.
    async fn is_joined_by(&self, group: &str, members: usize) {
        let client: BaseConsumer = self.settings.client().create().unwrap();
        let mut stable = 0;
        while stable < 6 {
            let groups = client.fetch_group_list(Some(&self.settings.prefixed(group)), PATIENCE);
            let groups = groups.unwrap();
            let joined = |it: &GroupInfo| it.state() == "Stable" && it.members().len() == members;
            stable = if groups.groups().iter().any(joined) { stable + 1 } else { 0 };
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    fn letters(&self) -> u64 {
        self.counter("consumer_dead_lettered_total", "")
    }
}

async fn becomes(running: &Running, what: &str) {
    let state = async || running.status.state().to_string().starts_with(what).then_some(());
    eventually(&format!("the state to be {what:?}"), PATIENCE, state).await;
}

/// Opens after five, and is tried every half second.
fn sensitive() -> Options {
    Options {
        breaker_letters: 5,
        breaker_probe: Duration::from_millis(500),
        retries: 1,
        ..House::options()
    }
}

#[tokio::test]
async fn a_pause_stops_all_instances_and_ends_with_it() {
    let house = House::new().await;
    let subscription = || Subscription::new("group").each_once(note::<ParcelPacked>());
    let (one, other) = (house.run(subscription()), house.run(subscription()));
    house.processes_one().await;

    consumer::pause(&house.pool, "group", "ada", "the printer burns").await.unwrap();
    for running in [&one, &other] {
        let expected = State::Paused { by: "ada".into(), why: "the printer burns".into() };
        let paused = async || (running.status.state() == expected).then_some(());
        // The rows are read twice a second.
        eventually("the pause to be obeyed", Duration::from_secs(2), paused).await;
    }
    tokio::time::sleep(OBEYED_WITHIN).await;
    let parcels: [ParcelId; 8] = std::array::from_fn(|_| ParcelId::new());
    for parcel in parcels {
        house.send::<ParcelPacked>(parcel, 1, FINE).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    for parcel in parcels {
        assert_eq!(house.effects(parcel).await, [] as [i64; 0]);
    }
    let standing = house.standing().await;
    assert_eq!(standing.paused.map(|it| it.paused_by), Some("ada".into()));
    let states: Vec<_> = standing.instances.iter().map(|it| &*it.state).collect();
    assert_eq!(states, ["paused by ada: the printer burns"; 2]);

    assert!(consumer::resume(&house.pool, "group").await.unwrap());
    for parcel in parcels {
        house.has(parcel, &[1]).await;
    }
    one.end().await;
    other.end().await;
    assert_eq!(house.standing().await, Standing::default(), "who has left is not listed");
    assert!(!consumer::resume(&house.pool, "group").await.unwrap(), "nothing to end");
}

#[tokio::test]
async fn what_begins_while_it_is_paused_consumes_nothing() {
    let house = House::new().await;
    consumer::pause(&house.pool, "group", "ada", "not yet").await.unwrap();
    let parcel = ParcelId::new();
    house.send::<ParcelPacked>(parcel, 1, FINE).await;
    let running = house.run(Subscription::new("group").each_once(note::<ParcelPacked>()));
    becomes(&running, "paused").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(house.effects(parcel).await, [] as [i64; 0]);
    consumer::resume(&house.pool, "group").await.unwrap();
    house.has(parcel, &[1]).await;
    running.end().await;
}

#[tokio::test]
async fn a_key_that_is_parked_is_dropped_by_a_pause_and_read_again() {
    let house = House::new().await;
    // Its retry would be due in half an hour.
    let patient = Options { first_backoff: Duration::from_mins(30), ..House::options() };
    let handler = troubled::<ParcelPacked>(1, || Failure::transient(io()));
    let running = house.run_with(patient, Subscription::new("group").each_once(handler));
    let parcel = ParcelId::new();
    house.send::<ParcelPacked>(parcel, 1, CUSTOMER).await;
    let parked = async || {
        house.metrics.render().contains("consumer_parked_keys{messaging_consumer_group_name=\"group\",otel_scope_name=\"consumer\"} 1").then_some(())
    };
    eventually("the key to be parked", PATIENCE, parked).await;
    consumer::pause(&house.pool, "group", "ada", "a look").await.unwrap();
    becomes(&running, "paused").await;
    consumer::resume(&house.pool, "group").await.unwrap();
    house.has(parcel, &[1]).await;
    running.end().await;
}

#[tokio::test]
async fn a_breaker_opens_and_closes_by_itself() {
    let house = House::new().await;
    let running =
        house.run_with(sensitive(), Subscription::new("group").each_once(note::<ParcelPacked>()));
    house.processes_one().await;
    running.faults.set(Some(Fault::new(FaultKind::Transient)));
    let parcels: [ParcelId; 12] = std::array::from_fn(|_| ParcelId::new());
    for parcel in parcels {
        house.send::<ParcelPacked>(parcel, 1, FINE).await;
    }
    becomes(&running, "breaker open: parcel.packed").await;
    // Some probes fail meanwhile. They count as no attempt.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(house.letters(), 5);
    let breakers = house.standing().await.breakers;
    assert!(matches!(&*breakers, [one] if one.is_open() && one.letters == 5), "{breakers:?}");

    running.faults.set(None);
    becomes(&running, "running").await;
    let others = async || (house.effects_of(&parcels).await >= 12 - 5).then_some(());
    eventually("the others to be processed", PATIENCE, others).await;
    assert_eq!(house.effects_of(&parcels).await, 7);
    assert_eq!(house.letters(), 5);
    assert_eq!(house.standing().await.breakers, []);
    running.end().await;
}

impl House {
    async fn effects_of(&self, parcels: &[ParcelId]) -> usize {
        let subjects: Vec<_> = parcels.iter().map(ToString::to_string).collect();
        let count: i64 = sqlx::query_scalar("select count(*) from effect where subject = any ($1)")
            .bind(subjects)
            .fetch_one(&self.pool)
            .await
            .unwrap();
        usize::try_from(count).unwrap()
    }
}

#[tokio::test]
async fn junk_opens_no_breaker() {
    let house = House::new().await;
    let running =
        house.run_with(sensitive(), Subscription::new("group").each_once(note::<ParcelPacked>()));
    running.faults.set(Some(Fault::new(FaultKind::Permanent)));
    for _ in 0..8 {
        house.send::<ParcelPacked>(ParcelId::new(), 1, FINE).await;
    }
    house.read(&dead_letter_topic("group").name, 8).await;
    assert_eq!(running.status.state(), State::Running);
    assert_eq!(house.standing().await.breakers, []);
    running.end().await;
}

#[tokio::test]
async fn a_success_in_between_sets_the_count_back() {
    let house = House::new().await;
    let handler = troubled::<ParcelPacked>(usize::MAX, || Failure::transient(io()));
    let running = house.run_with(sensitive(), Subscription::new("group").each_once(handler));
    for _ in 0..2 {
        for _ in 0..4 {
            house.send::<ParcelPacked>(ParcelId::new(), 1, CUSTOMER).await;
        }
        let counted = async || {
            let breakers = house.standing().await.breakers;
            breakers.first().is_some_and(|it| it.letters == 4).then_some(())
        };
        eventually("four letters to be counted", PATIENCE, counted).await;
        house.processes_one().await;
        let reset = async || house.standing().await.breakers.is_empty().then_some(());
        eventually("the count to be set back", PATIENCE, reset).await;
    }
    assert_eq!(running.status.state(), State::Running);
    running.end().await;
}

#[tokio::test]
async fn a_message_that_is_ill_itself_keeps_no_breaker_open() {
    let house = House::new().await;
    let handler = UnstableHandler { is_failing: Arc::default() };
    let is_failing = Arc::clone(&handler.is_failing);
    is_failing.store(true, Ordering::Relaxed);
    let running = house.run_with(sensitive(), Subscription::new("group").each_once(handler));
    // These go on failing when the others are well.
    for _ in 0..7 {
        house.send::<ParcelPacked>(ParcelId::new(), 1, CUSTOMER).await;
    }
    becomes(&running, "breaker open").await;
    is_failing.store(false, Ordering::Relaxed);
    let parcel = ParcelId::new();
    house.send::<ParcelPacked>(parcel, 1, FINE).await;
    house.has(parcel, &[1]).await;
    running.end().await;
}

struct UnstableHandler {
    is_failing: Arc<AtomicBool>,
}

impl Handler for UnstableHandler {
    type Event = ParcelPacked;

    async fn handle(
        &self,
        tx: &mut PgConnection,
        events: &[Received<ParcelPacked>],
    ) -> Result<(), Failure> {
        let fails = |it: &Received<ParcelPacked>| it.data.parcel().email == CUSTOMER;
        if self.is_failing.load(Ordering::Relaxed) || events.iter().any(fails) {
            return Err(Failure::transient(io()));
        }
        note::<ParcelPacked>().handle(tx, events).await
    }
}

#[tokio::test]
async fn resuming_closes_a_breaker_by_hand() {
    let house = House::new().await;
    let never = Options { breaker_probe: Duration::from_hours(1), ..sensitive() };
    let subscription = Subscription::new("group")
        .each_once(note::<ParcelPacked>())
        .each_once(note::<ParcelShipped>());
    let running = house.run_with(never, subscription);
    running.faults.set(Some(Fault::new(FaultKind::Transient)));
    for _ in 0..6 {
        house.send::<ParcelPacked>(ParcelId::new(), 1, FINE).await;
    }
    becomes(&running, "breaker open").await;
    running.faults.set(None);
    tokio::time::sleep(OBEYED_WITHIN).await;
    // Messages of other types wait too.
    let parcel = ParcelId::new();
    house.send::<ParcelShipped>(parcel, 1, FINE).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(house.effects(parcel).await, [] as [i64; 0]);
    assert!(consumer::resume(&house.pool, "group").await.unwrap());
    house.has(parcel, &[1]).await;
    becomes(&running, "running").await;
    running.end().await;
}

#[tokio::test]
async fn a_group_that_is_no_more_is_dropped_and_others_keep_their_rows() {
    let house = House::new().await;
    let old = Subscription::new("group").each_once(note::<ParcelPacked>());
    let running = house.run(old);
    house.processes_one().await;
    let dropped = consumer::drop_group(&house.pool, "group").await.unwrap();
    assert_eq!(dropped, Dropped::Running);
    running.end().await;

    let new = Subscription::new("group").generation(2).each_once(note::<ParcelPacked>());
    let running = house.run(new);
    house.processes_one().await;
    sqlx::query(
        "insert into inbox (subscription, source, event_id, outcome)
         select 'group', '/warehouse', 'old-' || n, 'processed' from generate_series(1, 100000) n",
    )
    .execute(&house.pool)
    .await
    .unwrap();
    let dropped = consumer::drop_group(&house.pool, "group").await.unwrap();
    assert_eq!(dropped, Dropped::Rows(100_001));
    let left: i64 = sqlx::query_scalar("select count(*) from inbox where subscription = 'group.2'")
        .fetch_one(&house.pool)
        .await
        .unwrap();
    assert_eq!(left, 2);
    assert_eq!(consumer::drop_group(&house.pool, "group").await.unwrap(), Dropped::Rows(0));
    running.end().await;
}

#[tokio::test]
async fn a_probe_during_the_assignment_of_partitions_skips_no_message() {
    let house = House::new().await;
    // The probe is due at the start, before the group is joined, and finds no message.
    sqlx::query(
        "insert into breaker (subscription, event_type, fingerprint, reason, opened_at)
         values ('group', $1, 'f', 'made for the test', clock_timestamp() - interval '10 minutes')",
    )
    .bind(ParcelPacked::TYPE)
    .execute(&house.pool)
    .await
    .unwrap();
    let parcels: [ParcelId; 8] = std::array::from_fn(|_| ParcelId::new());
    for parcel in parcels {
        house.send::<ParcelShipped>(parcel, 1, FINE).await;
    }
    let subscription = Subscription::new("group")
        .each_once(note::<ParcelPacked>())
        .each_once(note::<ParcelShipped>());
    let running = house.run(subscription);
    for parcel in parcels {
        house.has(parcel, &[1]).await;
    }
    running.end().await;
}

#[tokio::test]
async fn a_duplicate_closes_no_breaker() {
    let house = House::new().await;
    let handler = UnstableHandler { is_failing: Arc::default() };
    let is_failing = Arc::clone(&handler.is_failing);
    let running = house.run_with(sensitive(), Subscription::new("group").each_once(handler));
    let known = house.event::<ParcelPacked>(ParcelId::new(), 1, FINE);
    house.publish(ParcelPacked::TYPE, &known).await;
    let processed =
        async || (house.counter("consumer_settled_total", "processed") == 1).then_some(());
    eventually("it to be processed", PATIENCE, processed).await;
    is_failing.store(true, Ordering::Relaxed);
    for _ in 0..7 {
        house.send::<ParcelPacked>(ParcelId::new(), 1, FINE).await;
    }
    becomes(&running, "breaker open").await;
    // It is the first message of a key that has not failed, and has no handler.
    for _ in 0..5 {
        house.publish(ParcelPacked::TYPE, &known).await;
    }
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(house.letters(), 5);
    is_failing.store(false, Ordering::Relaxed);
    becomes(&running, "running").await;
    running.end().await;
}

#[tokio::test]
async fn with_nothing_left_to_try_the_next_message_is_and_is_no_dead_letter() {
    let house = House::new().await;
    let running =
        house.run_with(sensitive(), Subscription::new("group").each_once(note::<ParcelPacked>()));
    running.faults.set(Some(Fault::new(FaultKind::Transient)));
    for _ in 0..5 {
        house.send::<ParcelPacked>(ParcelId::new(), 1, FINE).await;
    }
    house.read(&dead_letter_topic("group").name, 5).await;
    // All of them are dead letters, and nothing waits.
    becomes(&running, "running").await;
    let parcel = ParcelId::new();
    house.send::<ParcelPacked>(parcel, 1, FINE).await;
    becomes(&running, "breaker open").await;
    assert_eq!(house.letters(), 5);
    running.faults.set(None);
    house.has(parcel, &[1]).await;
    becomes(&running, "running").await;
    running.end().await;
}

#[tokio::test]
async fn instances_agree_on_a_breaker_and_either_closes_it() {
    let house = House::new().await;
    let subscription = || Subscription::new("group").each_once(note::<ParcelPacked>());
    let one = house.run_with(sensitive(), subscription());
    let other = house.run_with(sensitive(), subscription());
    // A rebalance in between reads dead letters again that are beyond the first open message.
    house.is_joined_by("group", 2).await;
    house.processes_one().await;
    for running in [&one, &other] {
        running.faults.set(Some(Fault::new(FaultKind::Transient)));
    }
    let parcels: [ParcelId; 16] = std::array::from_fn(|_| ParcelId::new());
    for parcel in parcels {
        house.send::<ParcelPacked>(parcel, 1, FINE).await;
    }
    becomes(&one, "breaker open: parcel.packed").await;
    becomes(&other, "breaker open: parcel.packed").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(house.letters(), 5);
    for running in [&one, &other] {
        running.faults.set(None);
    }
    becomes(&one, "running").await;
    becomes(&other, "running").await;
    let others = async || (house.effects_of(&parcels).await == 16 - 5).then_some(());
    eventually("the others to be processed", PATIENCE, others).await;
    one.end().await;
    other.end().await;
}
