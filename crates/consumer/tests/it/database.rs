//! Tests of the classification of failures: the database refuses, another transaction holds a lock,
//! or the message is invalid.

use std::time::{Duration, Instant};

use consumer::{Failure, Handler, Options, Received, State, Subscription};
use kafka::dead_letter_topic;
use kafka::rdkafka::consumer::{BaseConsumer, Consumer as _};
use sandbox::testing::eventually;
use sqlx::{Connection, PgConnection};

use crate::events::{ParcelEvent, ParcelId, ParcelPacked};
use crate::house::{CUSTOMER, House, PATIENCE, Running, io, note, troubled};

impl House {
    async fn sends_to_each_of(&self, parcels: &[ParcelId], customer: &str) {
        for parcel in parcels {
            self.send::<ParcelPacked>(*parcel, 1, customer).await;
        }
    }

    fn is_without_members(&self, group: &str) -> bool {
        let client: BaseConsumer = self.settings.client().create().unwrap();
        let groups =
            client.fetch_group_list(Some(&self.settings.prefixed(group)), PATIENCE).unwrap();
        groups.groups().iter().all(|group| group.members().is_empty())
    }

    async fn nobody_was_blamed(&self) {
        assert_eq!(self.counter("consumer_dead_lettered_total", ""), 0);
        let attempts: i64 =
            sqlx::query_scalar("select count(*) from attempt where reason is not null")
                .fetch_one(&self.pool)
                .await
                .unwrap();
        assert_eq!(attempts, 0);
    }
}

async fn await_state(running: &Running, text: &str) {
    let contains = async || running.status.state().to_string().contains(text).then_some(());
    eventually(&format!("the state to say {text:?}"), PATIENCE, contains).await;
}

fn parcels<const N: usize>() -> [ParcelId; N] {
    std::array::from_fn(|_| ParcelId::new())
}

#[tokio::test]
async fn a_database_that_turns_read_only_is_waited_for_and_costs_nobody_an_attempt() {
    let house = House::new().await;
    let running = house.run(Subscription::new("group").each_once(note::<ParcelPacked>()));
    house.processes_one().await;

    house.space.set_read_only(true).await;
    // By then the pool asks its sessions before it uses them, and connects anew: the attempt itself
    // is refused.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let waiting: [ParcelId; 30] = parcels();
    house.sends_to_each_of(&waiting, "a@example.com").await;
    await_state(&running, "waiting for the database").await;
    await_state(&running, "read-only transaction").await;
    // Longer than all retries would take.
    tokio::time::sleep(Duration::from_secs(1)).await;
    house.space.set_read_only(false).await;
    for parcel in waiting {
        house.has(parcel, &[1]).await;
    }
    house.nobody_was_blamed().await;
    assert_eq!(running.status.state(), State::Running);
    running.end().await;
}

#[tokio::test]
async fn a_subscription_that_waits_for_long_leaves_its_group_and_comes_back() {
    let house = House::new().await;
    let running = house.run(Subscription::new("group").each_once(note::<ParcelPacked>()));
    house.processes_one().await;
    let second = ParcelId::new();
    house.space.set_read_only(true).await;
    house.send::<ParcelPacked>(second, 1, "a@example.com").await;
    let left = async || house.is_without_members("group").then_some(());
    eventually("the group to be left", PATIENCE * 2, left).await;
    assert_eq!(house.counter("consumer_lag{", "parcel.packed"), 0, "others have its partitions");
    await_state(&running, "waiting for the database").await;
    house.space.set_read_only(false).await;
    house.has(second, &[1]).await;
    house.nobody_was_blamed().await;
    running.end().await;
}

#[tokio::test]
async fn a_right_that_is_taken_away_and_given_back_costs_nobody_an_attempt() {
    let house = House::new().await;
    let running = house.run(Subscription::new("group").each_once(note::<ParcelPacked>()));
    house.processes_one().await;
    let role = house.pool.connect_options().get_username().to_owned();
    for table in ["inbox", "effect"] {
        house.space.as_superuser(&format!("revoke insert on {table} from {role}")).await;
        let waiting: [ParcelId; 5] = parcels();
        house.sends_to_each_of(&waiting, "a@example.com").await;
        await_state(&running, "permission denied").await;
        house.space.as_superuser(&format!("grant insert on {table} to {role}")).await;
        for parcel in waiting {
            house.has(parcel, &[1]).await;
        }
        house.nobody_was_blamed().await;
    }
    running.end().await;
}

/// Executes a statement before it does the rest, for parcels of the troublesome customer.
struct ExecuteStatement(&'static str);

impl Handler for ExecuteStatement {
    type Event = ParcelPacked;

    async fn handle(
        &self,
        tx: &mut PgConnection,
        events: &[Received<ParcelPacked>],
    ) -> Result<(), Failure> {
        if events.iter().any(|event| event.data.parcel().email == CUSTOMER) {
            sqlx::query(self.0).execute(&mut *tx).await?;
        }
        note::<ParcelPacked>().handle(tx, events).await
    }
}

#[tokio::test]
async fn a_lock_that_another_transaction_holds_parks_the_keys_that_need_it_and_no_others() {
    let house = House::new().await;
    for sql in ["create table guard (count bigint)", "insert into guard values (0)"] {
        sqlx::query(sql).execute(&house.pool).await.unwrap();
    }
    // Longer than a statement waits for a lock.
    let options = Options { handler_timeout: Duration::from_secs(5), ..House::options() };
    let guarded = ExecuteStatement("update guard set count = count + 1");
    let running = house.run_with(options, Subscription::new("group").each_once(guarded));
    let mut other = PgConnection::connect_with(&house.pool.connect_options()).await.unwrap();
    let mut held = other.begin().await.unwrap();
    sqlx::query("select * from guard for update").execute(&mut *held).await.unwrap();

    let blocked: [ParcelId; 40] = parcels();
    house.sends_to_each_of(&blocked, CUSTOMER).await;
    await_state(&running, "parked").await;
    for _ in 0..5 {
        let free = ParcelId::new();
        let sent = Instant::now();
        house.send::<ParcelPacked>(free, 1, "a@example.com").await;
        house.has(free, &[1]).await;
        // As long as one statement would wait for the lock.
        assert!(sent.elapsed() < Duration::from_secs(5), "it took {:?}", sent.elapsed());
    }
    await_state(&running, "lock timeout").await;
    held.rollback().await.unwrap();
    for parcel in blocked {
        house.has(parcel, &[1]).await;
    }
    house.nobody_was_blamed().await;
    running.end().await;
}

#[tokio::test]
async fn new_keys_that_need_a_held_lock_leave_the_lanes_time_for_others() {
    let house = House::new().await;
    for sql in ["create table guard (count bigint)", "insert into guard values (0)"] {
        sqlx::query(sql).execute(&house.pool).await.unwrap();
    }
    let handler_timeout = Duration::from_secs(5);
    let options = Options { handler_timeout, lanes: 4, ..House::options() };
    let guarded = ExecuteStatement("update guard set count = count + 1");
    let running = house.run_with(options, Subscription::new("group").each_once(guarded));
    let mut other = PgConnection::connect_with(&house.pool.connect_options()).await.unwrap();
    let mut held = other.begin().await.unwrap();
    sqlx::query("select * from guard for update").execute(&mut *held).await.unwrap();

    // If each of them waited for a second, the four lanes would be a quarter of a minute behind.
    let blocked: [ParcelId; 80] = parcels();
    for some in blocked.chunks(10) {
        house.sends_to_each_of(some, CUSTOMER).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let (free, sent) = (ParcelId::new(), Instant::now());
    house.send::<ParcelPacked>(free, 1, "a@example.com").await;
    house.has(free, &[1]).await;
    assert!(sent.elapsed() < Duration::from_secs(3), "it took {:?}", sent.elapsed());
    held.rollback().await.unwrap();
    for parcel in blocked {
        house.has(parcel, &[1]).await;
    }
    house.nobody_was_blamed().await;
    running.end().await;
}

#[tokio::test]
async fn a_message_that_ends_its_session_is_found_once_others_succeed_for_long() {
    let house = House::new().await;
    let options = Options { conflict_limit: Duration::from_secs(1), ..House::options() };
    let killing = ExecuteStatement("select pg_terminate_backend(pg_backend_pid())");
    let running = house.run_with(options, Subscription::new("group").each_once(killing));
    let killer = ParcelId::new();
    house.send::<ParcelPacked>(killer, 1, CUSTOMER).await;
    await_state(&running, "1 key is parked").await;
    // Nothing else succeeds, so it may still be the database.
    tokio::time::sleep(Duration::from_secs(2)).await;
    house.nobody_was_blamed().await;
    let others: [ParcelId; 5] = parcels();
    house.sends_to_each_of(&others, "a@example.com").await;
    for other in others {
        house.has(other, &[1]).await;
    }
    let letter = house.first(&dead_letter_topic("group").name).await;
    assert_eq!(letter.key.as_deref(), Some(killer.to_string().as_bytes()));
    running.end().await;
}

#[tokio::test]
async fn a_server_that_is_out_of_room_for_some_rows_blames_no_message() {
    let house = House::new().await;
    let options = Options { conflict_limit: Duration::from_secs(1), ..House::options() };
    let full = ExecuteStatement("do $$ begin raise disk_full using message = 'no room'; end $$");
    let running = house.run_with(options, Subscription::new("group").each_once(full));
    let refused: [ParcelId; 2] = parcels();
    house.sends_to_each_of(&refused, CUSTOMER).await;
    await_state(&running, "2 keys are parked: ").await;
    await_state(&running, "no room").await;
    // Others still find room in the pages that are there.
    for _ in 0..4 {
        house.processes_one().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    house.nobody_was_blamed().await;
    running.end().await;
}

#[tokio::test]
async fn a_database_that_turns_read_only_is_told_without_any_message() {
    let house = House::new().await;
    let running = house.run(Subscription::new("group").each_once(note::<ParcelPacked>()));
    house.processes_one().await;
    house.space.set_read_only(true).await;
    await_state(&running, "waiting for the database: ").await;
    await_state(&running, "read-only transaction").await;
    house.space.set_read_only(false).await;
    await_state(&running, "running").await;
    running.end().await;
}

#[tokio::test]
async fn what_a_handler_calls_unavailable_is_never_counted() {
    let house = House::new().await;
    let options = Options { conflict_limit: Duration::from_millis(100), ..House::options() };
    let handler = troubled::<ParcelPacked>(5, || Failure::unavailable(io()));
    let running = house.run_with(options, Subscription::new("group").each_once(handler));
    let parcel = ParcelId::new();
    house.send::<ParcelPacked>(parcel, 1, CUSTOMER).await;
    await_state(&running, "1 key is parked").await;
    // Others succeed meanwhile.
    house.processes_one().await;
    house.has(parcel, &[1]).await;
    house.nobody_was_blamed().await;
    running.end().await;
}

#[tokio::test]
async fn a_statement_that_takes_long_is_the_databases_fault() {
    let house = House::new().await;
    let slow = ExecuteStatement("select pg_sleep(5)");
    let running = house.run(Subscription::new("group").each_once(slow));
    house.send::<ParcelPacked>(ParcelId::new(), 1, CUSTOMER).await;
    await_state(&running, "statement timeout").await;
    house.processes_one().await;
    house.nobody_was_blamed().await;
    running.end().await;
}
