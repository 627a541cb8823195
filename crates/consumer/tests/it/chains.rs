//! A lane with a backlog uses one connection, whose transactions follow each other without a pause.

use consumer::{Failure, Handler, Options, Received, Subscription};
use sandbox::testing::eventually;
use sqlx::PgConnection;

use crate::events::{ParcelEvent, ParcelId, ParcelPacked};
use crate::house::{CUSTOMER, House, PATIENCE, io, troubled};

const BACKLOG: usize = 300;

/// Writes the process id of its session in place of the version. Parcels of the troublesome customer get an SQL error
/// that it ignores.
struct NoteSession;

impl Handler for NoteSession {
    type Event = ParcelPacked;

    async fn handle(
        &self,
        tx: &mut PgConnection,
        events: &[Received<ParcelPacked>],
    ) -> Result<(), Failure> {
        for event in events {
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

    async fn sends_a_backlog(&self) {
        for _ in 0..BACKLOG {
            self.send::<ParcelPacked>(ParcelId::new(), 1, "a@example.com").await;
        }
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
    // A lane gives its session up when it finds no message, which may happen now and then while they are fetched.
    let most: i64 = sqlx::query_scalar(
        "select max(count) from (select count(*) from effect group by version) as sessions",
    )
    .fetch_one(&house.pool)
    .await
    .unwrap();
    assert!(most > i64::try_from(BACKLOG / 2).unwrap(), "{most} of {BACKLOG} on one session");
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
    eventually("all transactions to end", PATIENCE, returned).await;
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
    let parked = ParcelId::new();
    house.send::<ParcelPacked>(parked, 1, CUSTOMER).await;
    // A second event of the key follows its retry.
    house.send::<ParcelPacked>(parked, 2, "a@example.com").await;
    house.sends_a_backlog().await;
    let handler = troubled::<ParcelPacked>(1, || Failure::transient(io()));
    let running = house.run_with(one_lane(), Subscription::new("group").each_once(handler));
    house.has_effects(BACKLOG + 2).await;
    let place: i64 = sqlx::query_scalar(
        "select count(*) from effect where id < (select max(id) from effect where subject = $1)",
    )
    .bind(parked.to_string())
    .fetch_one(&house.pool)
    .await
    .unwrap();
    assert!(place < i64::try_from(BACKLOG).unwrap(), "{place} effects came before its last one");
    house.has(parked, &[1, 2]).await;
    running.end().await;
}
