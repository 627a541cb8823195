//! Tests of the outcomes of messages.

use crate::events::{ParcelId, ParcelPacked, ParcelShipped};
use consumer::{Failure, Fault, FaultKind, Handler, Options, Received, State, Subscription};
use sandbox::testing::eventually;
use sqlx::PgConnection;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::house::{CUSTOMER, House, Note, PATIENCE, io, note, troubled};

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
    // With one lane, a wait in it would hold up all other keys.
    let options = Options {
        lanes: 1,
        first_backoff: Duration::from_secs(1),
        backoff_factor: 1,
        ..House::options()
    };
    let running = house.run_with(options, Subscription::new("group").each_once(handler));
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
    let came_last = "select min(id) filter (where subject = $1) > max(id) filter (where subject <> $1) from effect";
    let came_last = sqlx::query_scalar::<_, bool>(came_last).bind(parcel.to_string());
    assert!(came_last.fetch_one(&house.pool).await.unwrap(), "the others came first");
    assert_eq!(house.counter("consumer_retries_total", ""), 3);
    assert_eq!(house.counter("consumer_dead_lettered_total", ""), 0);
    running.end().await;
}

#[tokio::test]
async fn a_consumer_with_options_that_can_not_work_says_so_until_its_end() {
    let house = House::new().await;
    let options = Options { max_batch: 0, ..House::options() };
    let subscription = Subscription::new("group").each_once(note::<ParcelPacked>());
    let running = house.run_with(options, subscription);
    let why = running.halted().await;
    assert!(why.contains("max_batch"), "{why}");
    running.end().await;
}

#[tokio::test]
async fn what_is_unavailable_to_one_handler_parks_its_key_uncounted_and_says_so() {
    let house = House::new().await;
    let handler = troubled::<ParcelPacked>(6, || Failure::unavailable(io()));
    let running = house.run(Subscription::new("group").each_once(handler));
    let parcel = ParcelId::new();
    house.send::<ParcelPacked>(parcel, 1, CUSTOMER).await;
    let expected = "troubled: 1 key is parked: made for the test";
    let parked = async || (running.status.state().to_string() == expected).then_some(());
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
async fn handlers_that_hang_on_all_connections_are_blamed_and_not_the_database() {
    struct Hang;
    impl Handler for Hang {
        type Event = ParcelPacked;
        async fn handle(
            &self,
            _: &mut PgConnection,
            _: &[Received<ParcelPacked>],
        ) -> Result<(), Failure> {
            std::future::pending().await
        }
    }
    let mut house = House::new().await;
    let all = pg::PoolOptions::new("test").max_connections(2);
    let all = all.connect_lazily(house.space.database_url().parse().unwrap());
    let housekeeping = std::mem::replace(&mut house.pool, all);
    let running = house.run_as(Subscription::new("group").each_once(Hang), |consumer| {
        let options = Options { lanes: 2, ..House::options() };
        consumer.options(options).housekeeping(housekeeping.clone())
    });
    house.pool = housekeeping;
    for _ in 0..4 {
        house.send::<ParcelPacked>(ParcelId::new(), 1, "a@example.com").await;
    }
    house.read("group.dlq", 4).await;
    running.end().await;
}

#[tokio::test]
async fn a_handler_that_swallows_an_error_of_the_database_has_failed() {
    struct SwallowError(Note<ParcelPacked>);
    impl Handler for SwallowError {
        type Event = ParcelPacked;
        async fn handle(
            &self,
            tx: &mut PgConnection,
            events: &[Received<ParcelPacked>],
        ) -> Result<(), Failure> {
            self.0.handle(&mut *tx, events).await?;
            let is_first = self.0.times.fetch_add(1, Ordering::SeqCst) == 0;
            let statement = if is_first { "select 1 / 0" } else { "select 1" };
            _ = sqlx::query(statement).execute(tx).await;
            Ok(())
        }
    }
    let house = House::new().await;
    let running = house.run(Subscription::new("group").each_once(SwallowError(note())));
    let parcel = ParcelId::new();
    house.send::<ParcelPacked>(parcel, 1, "a@example.com").await;
    house.has(parcel, &[1]).await;
    assert_eq!(house.counter("consumer_retries_total", ""), 1);
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
