//! A lane with a backlog uses one connection, whose transactions follow each other without a pause.

use std::sync::Arc;
use std::time::Duration;

use consumer::{Failure, Handler, Options, Received, Subscription};
use envelope::Event;
use futures::future::join_all;
use sandbox::testing::eventually;
use sqlx::PgConnection;
use tokio::sync::{Notify, Semaphore};

use crate::events::{ParcelEvent, ParcelId, ParcelPacked};
use crate::house::{CUSTOMER, House, Note, PATIENCE, io, troubled};

const BACKLOG: usize = 200;

/// Takes as long as several messages need to arrive, so that others wait.
const WORK: Duration = Duration::from_millis(3);

/// Writes the process id of its session as the version. Parcels of the troublesome customer get an
/// SQL error that it ignores.
struct NoteSession;

impl Handler for NoteSession {
    type Event = ParcelPacked;

    async fn handle(
        &self,
        tx: &mut PgConnection,
        events: &[Received<ParcelPacked>],
    ) -> Result<(), Failure> {
        for event in events {
            tokio::time::sleep(WORK).await;
            sqlx::query("insert into effect (subject, version) values ($1, pg_backend_pid())")
                .bind(&event.envelope.subject)
                .execute(&mut *tx)
                .await?;
            if event.data.parcel().email == CUSTOMER {
                let _ignored = sqlx::query("select 1 / 0").execute(&mut *tx).await;
            }
        }
        Ok(())
    }
}

/// Takes its time for each message.
struct Slow(Note<ParcelPacked>);

impl Handler for Slow {
    type Event = ParcelPacked;

    async fn handle(
        &self,
        tx: &mut PgConnection,
        events: &[Received<ParcelPacked>],
    ) -> Result<(), Failure> {
        tokio::time::sleep(WORK).await;
        self.0.handle(tx, events).await
    }
}

/// Ends a successful attempt only when the test lets it.
struct Gated {
    handler: Note<ParcelPacked>,
    entered: Arc<Notify>,
    gate: Arc<Semaphore>,
}

impl Handler for Gated {
    type Event = ParcelPacked;

    async fn handle(
        &self,
        tx: &mut PgConnection,
        events: &[Received<ParcelPacked>],
    ) -> Result<(), Failure> {
        self.handler.handle(tx, events).await?;
        self.entered.notify_one();
        self.gate.acquire().await.unwrap().forget();
        Ok(())
    }
}

/// Fails once for the troublesome customer.
fn fails_once() -> Note<ParcelPacked> {
    troubled(1, || Failure::transient(io()))
}

impl House {
    async fn has_effects(&self, count: usize) {
        let has = async || {
            let effects: i64 = sqlx::query_scalar("select count(*) from effect")
                .fetch_one(&self.pool)
                .await
                .unwrap();
            (effects == i64::try_from(count).unwrap()).then_some(())
        };
        eventually(&format!("{count} effects"), PATIENCE, has).await;
    }

    /// Sends it to the partition that all share, since a lane returns its connection for the first
    /// record of another.
    async fn sends_one(&self, parcel: ParcelId, customer: &str) {
        let event = self.event::<ParcelPacked>(parcel, 1, customer);
        self.publish_on(ParcelPacked::TYPE, 0, &event).await;
    }

    async fn sends_a_backlog(&self) {
        join_all((0..BACKLOG).map(|_| self.sends_one(ParcelId::new(), "a@example.com"))).await;
    }
}

fn one_lane() -> Options {
    Options { lanes: 1, max_batch: 1, ..House::options() }
}

#[tokio::test]
async fn a_backlog_is_processed_on_one_session_which_is_returned_at_its_end() {
    let house = House::new().await;
    house.sends_a_backlog().await;
    let running = house.run_with(one_lane(), Subscription::new("group").each_once(NoteSession));
    house.has_effects(BACKLOG).await;
    // The lane returns its connection after a second, and after an interruption of 100 ms.
    let switches: i64 = sqlx::query_scalar(
        "select count(*) from (select version <> lag(version) over (order by id) as is_other from effect) as effects
         where is_other",
    )
    .fetch_one(&house.pool)
    .await
    .unwrap();
    assert!(switches < 20, "{switches} times another session in {BACKLOG} messages");
    let returned = async || {
        let open: i64 = sqlx::query_scalar(
            "select count(*) from pg_stat_activity
             where datname = current_database() and pid <> pg_backend_pid() and xact_start is not null",
        )
        .fetch_one(&house.pool)
        .await
        .unwrap();
        (open == 0).then_some(())
    };
    // Postgres itself ends a transaction that is idle for 15 s.
    eventually("all transactions to end", Duration::from_secs(5), returned).await;
    running.end().await;
}

#[tokio::test]
async fn an_sql_error_that_a_handler_ignored_fails_its_message_alone() {
    let house = House::new().await;
    for index in 0..60 {
        let customer = if index % 20 == 7 { CUSTOMER } else { "a@example.com" };
        house.send::<ParcelPacked>(ParcelId::new(), 1, customer).await;
    }
    let running = house.run_with(one_lane(), Subscription::new("group").each_once(NoteSession));
    let buried = async || (house.counter("consumer_dead_lettered_total", "") == 3).then_some(());
    eventually("3 dead letters", PATIENCE, buried).await;
    house.has_effects(57).await;
    running.end().await;
}

#[tokio::test]
async fn a_parked_key_gets_its_turn_before_the_backlog_ends() {
    let house = House::new().await;
    let options = Options { first_backoff: Duration::from_millis(200), ..one_lane() };
    let subscription = Subscription::new("group").each_once(Slow(fails_once()));
    let running = house.run_with(options, subscription);
    let parked = ParcelId::new();
    house.sends_one(parked, CUSTOMER).await;
    let is_parked = async || (house.counter("consumer_parked_keys", "") == 1).then_some(());
    eventually("a parked key", PATIENCE, is_parked).await;
    house.sends_a_backlog().await;
    house.has_effects(BACKLOG + 1).await;
    let earlier: i64 = sqlx::query_scalar(
        "select count(*) from effect where id < (select id from effect where subject = $1)",
    )
    .bind(parked.to_string())
    .fetch_one(&house.pool)
    .await
    .unwrap();
    assert!(earlier < i64::try_from(BACKLOG).unwrap(), "{earlier} effects came before its own");
    running.end().await;
}

#[tokio::test]
async fn a_shutdown_waits_for_no_lane_whose_place_a_parked_key_waits_for() {
    let house = House::new().await;
    let (entered, gate) = (Arc::new(Notify::new()), Arc::new(Semaphore::new(0)));
    let handler = Gated { handler: fails_once(), entered: entered.clone(), gate: gate.clone() };
    let options = Options { handler_timeout: Duration::from_secs(10), ..one_lane() };
    let running = house.run_with(options, Subscription::new("group").each_once(handler));
    house.sends_one(ParcelId::new(), CUSTOMER).await;
    let is_parked = async || (house.counter("consumer_parked_keys", "") == 1).then_some(());
    eventually("a parked key", PATIENCE, is_parked).await;
    for _ in 0..3 {
        house.sends_one(ParcelId::new(), "a@example.com").await;
    }
    entered.notified().await;
    // The key is due after the first message, so its attempt waits while the second one is handled.
    tokio::time::sleep(2 * House::options().first_backoff).await;
    gate.add_permits(1);
    entered.notified().await;
    let is_due = async || (house.counter("consumer_retries_total", "") == 1).then_some(());
    eventually("the retry of the key", PATIENCE, is_due).await;
    running.shutdown.cancel();
    gate.add_permits(10);
    // Less than `drain_timeout`, after which the lanes are given up.
    tokio::time::timeout(Duration::from_secs(4), running.end()).await.unwrap();
}
