//! Tests of attempts that a restart of the consumer interrupts.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::events::{ParcelEvent, ParcelId, ParcelPacked};
use consumer::{Failure, Handler, Options, Received, Subscription};
use envelope::Event;
use sandbox::testing::eventually;
use sqlx::PgConnection;

use crate::house::{CUSTOMER, House, PATIENCE, Running, io, troubled};

/// Counts its calls, and fails or hangs for [`CUSTOMER`].
#[derive(Clone)]
struct CountCalls {
    calls: Arc<AtomicUsize>,
    trouble: Trouble,
}

#[derive(Clone, Copy)]
enum Trouble {
    Fail,
    /// Reports that a dependency is unavailable, which does not count.
    Refuse,
    /// Never ends, like an attempt whose process is killed.
    Hang,
}

impl CountCalls {
    fn new(trouble: Trouble) -> Self {
        Self { calls: Arc::default(), trouble }
    }

    async fn called(&self, times: usize) {
        let called = async || (self.calls.load(Ordering::SeqCst) >= times).then_some(());
        eventually(&format!("{times} calls"), PATIENCE, called).await;
    }
}

impl Handler for CountCalls {
    type Event = ParcelPacked;

    async fn handle(
        &self,
        tx: &mut PgConnection,
        events: &[Received<ParcelPacked>],
    ) -> Result<(), Failure> {
        for event in events {
            if event.data.parcel().email == CUSTOMER {
                self.calls.fetch_add(1, Ordering::SeqCst);
                match self.trouble {
                    Trouble::Fail => return Err(Failure::transient(io())),
                    Trouble::Refuse => return Err(Failure::unavailable(io())),
                    Trouble::Hang => std::future::pending::<()>().await,
                }
            }
            sqlx::query("insert into effect (subject, version) values ($1, $2)")
                .bind(&event.envelope.subject)
                .bind(event.envelope.version)
                .execute(&mut *tx)
                .await?;
        }
        Ok(())
    }
}

fn patient() -> Options {
    Options { handler_timeout: PATIENCE, ..House::options() }
}

/// Returns the number of rows of both tables of attempts.
async fn notes(house: &House) -> i64 {
    sqlx::query_scalar("select (select count(*) from attempt) + (select count(*) from consuming)")
        .fetch_one(&house.pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_restart_gives_a_message_no_new_retries() {
    let house = House::new().await;
    let handler = CountCalls::new(Trouble::Fail);
    let subscription = || Subscription::new("group").each_once(handler.clone());
    let slow = Options { first_backoff: Duration::from_secs(1), ..House::options() };
    let first = house.run_with(slow, subscription());
    house.send::<ParcelPacked>(ParcelId::new(), 1, CUSTOMER).await;
    handler.called(2).await;
    first.end().await;

    let second = house.run(subscription());
    house.first("group.dlq").await;
    assert_eq!(handler.calls.load(Ordering::SeqCst), 4, "the first attempt and three retries");
    second.end().await;
    assert_eq!(notes(&house).await, 0, "nothing is left of it");
}

/// Runs until the handler is called once more, and then ends like a killed process, without leaving
/// its group.
async fn killed_while_handling(house: &House, handler: &CountCalls, times: usize) {
    let running: Running =
        house.run_with(patient(), Subscription::new("group").each_once(handler.clone()));
    handler.called(times).await;
    running.task.abort();
    // A killed process has no connection either.
    sqlx::query(
        "select pg_terminate_backend(pid) from pg_stat_activity
         where datname = current_database() and state = 'idle in transaction'",
    )
    .execute(&house.pool)
    .await
    .unwrap();
}

#[tokio::test]
async fn a_message_that_kills_the_process_ends_in_the_dead_letters_and_its_neighbours_do_not() {
    let house = House::new().await;
    let handler = CountCalls::new(Trouble::Hang);
    let deadly = ParcelId::new();
    let neighbours: Vec<_> = (0..20).map(|_| ParcelId::new()).collect();
    for parcel in &neighbours {
        house.send::<ParcelPacked>(*parcel, 1, "a@example.com").await;
    }
    house.send::<ParcelPacked>(deadly, 1, CUSTOMER).await;
    // Once without a mark, since nothing had happened yet; then four times that count.
    for times in 1..=5 {
        killed_while_handling(&house, &handler, times).await;
    }
    let running = house.run(Subscription::new("group").each_once(handler.clone()));
    let letter = house.first("group.dlq").await;
    assert_eq!(letter.key.as_deref(), Some(deadly.to_string().as_bytes()));
    for parcel in &neighbours {
        house.has(*parcel, &[1]).await;
    }
    assert_eq!(handler.calls.load(Ordering::SeqCst), 5, "it is not tried again");
    assert_eq!(house.counter("consumer_dead_lettered_total", ""), 1);
    running.end().await;
}

#[tokio::test]
async fn a_process_that_is_killed_for_its_memory_blames_no_message() {
    let house = House::new().await;
    let handler = CountCalls::new(Trouble::Hang);
    let parcel = ParcelId::new();
    house.send::<ParcelPacked>(parcel, 1, CUSTOMER).await;
    for times in 1..=6 {
        killed_while_handling(&house, &handler, times).await;
        // As it would have said of itself.
        sqlx::query("update instance set near_memory_limit = true")
            .execute(&house.pool)
            .await
            .unwrap();
    }
    let marked: i64 = sqlx::query_scalar("select count(*) from attempt where reason is null")
        .fetch_one(&house.pool)
        .await
        .unwrap();
    assert_eq!((marked, house.counter("consumer_dead_lettered_total", "")), (0, 0));
}

/// Makes it look as if an instance that had all partitions of a topic had crashed.
async fn crashed(house: &House, topic: &str) {
    sqlx::query(
        "insert into consuming (subscription, topic, partition, instance)
         select 'group', $1, number, 'crashed' from generate_series(0, 20) number",
    )
    .bind(house.settings.prefixed(topic))
    .execute(&house.pool)
    .await
    .unwrap();
}

#[tokio::test]
async fn after_a_crash_an_attempt_that_does_not_count_leaves_no_mark() {
    let house = House::new().await;
    crashed(&house, ParcelPacked::TYPE).await;
    let [new, suspect] =
        [(); 2].map(|()| house.event::<ParcelPacked>(ParcelId::new(), 1, CUSTOMER));
    house.publish_on(ParcelPacked::TYPE, 0, &new).await;
    house.publish_on(ParcelPacked::TYPE, 1, &suspect).await;
    sqlx::query(
        r#"insert into attempt (subscription, topic, partition, "offset", attempts, reason)
           values ('group', $1, 1, 0, 2, 'it failed before')"#,
    )
    .bind(house.settings.prefixed(ParcelPacked::TYPE))
    .execute(&house.pool)
    .await
    .unwrap();

    let handler = CountCalls::new(Trouble::Refuse);
    let running = house.run(Subscription::new("group").each_once(handler.clone()));
    let attempted = async || {
        let rows: Vec<(i32, i32, Option<String>)> =
            sqlx::query_as("select partition, attempts, reason from attempt")
                .fetch_all(&house.pool)
                .await
                .unwrap();
        let [(1, 2, Some(reason))] = &*rows else { return None };
        (reason != "it failed before").then_some(())
    };
    // Both were attempted by then, and are attempted again and again.
    handler.called(4).await;
    eventually("the marks to be taken back", PATIENCE, attempted).await;
    running.end().await;
}

#[tokio::test]
async fn attempts_at_a_message_of_a_former_topic_are_not_those_of_its_successor() {
    let house = House::new().await;
    sqlx::query(
        r#"insert into attempt (subscription, topic, partition, "offset", "timestamp", attempts, reason, failures)
           select 'group', $1, 0, number, 1700000000000, 9, 'of another', '[{"message": "of another"}]'
           from generate_series(0, 1) number"#,
    )
    .bind(house.settings.prefixed(ParcelPacked::TYPE))
    .execute(&house.pool)
    .await
    .unwrap();
    let (fine, dead) = (ParcelId::new(), ParcelId::new());
    let fine_event = house.event::<ParcelPacked>(fine, 1, "a@example.com");
    house.publish_on(ParcelPacked::TYPE, 0, &fine_event).await;
    house.publish_on(ParcelPacked::TYPE, 0, &house.event::<ParcelPacked>(dead, 1, CUSTOMER)).await;
    let handler = troubled::<ParcelPacked>(usize::MAX, || Failure::transient(io()));
    let running = house.run(Subscription::new("group").each_once(handler));
    house.has(fine, &[1]).await;
    let attempts = async || {
        let attempts: Option<serde_json::Value> =
            sqlx::query_scalar("select attempts from dead_letter where subject = $1")
                .bind(dead.to_string())
                .fetch_optional(&house.pool)
                .await
                .unwrap();
        attempts
    };
    let attempts = eventually("a dead letter", PATIENCE, attempts).await;
    assert_eq!(attempts.as_array().unwrap().len(), 4, "after three retries: {attempts}");
    assert!(!attempts.to_string().contains("of another"), "{attempts}");
    running.end().await;
}

#[tokio::test]
async fn a_schedule_of_minutes_holds_up_no_other_key() {
    let house = House::new().await;
    let patient = Options { first_backoff: Duration::from_mins(30), ..House::options() };
    let handler = CountCalls::new(Trouble::Fail);
    let subscription = Subscription::new("group").each_once(handler.clone());
    let running = house.run_with(patient, subscription);
    for _ in 0..200 {
        house.send::<ParcelPacked>(ParcelId::new(), 1, CUSTOMER).await;
    }
    handler.called(200).await;
    house.processes_one().await;
    assert_eq!(house.counter("consumer_dead_lettered_total", ""), 0);
    running.end().await;
}
