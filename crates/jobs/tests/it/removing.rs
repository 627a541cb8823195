//! Tests of jobs whose handler has no hook, which are removed together.

use std::sync::Arc;
use std::time::Duration;

use jobs::{Context, Failure, Handler, Meta, State};
use sandbox::testing::{eventually, statements_wait_for_a_lock};
use sqlx::{PgPool, Postgres, Transaction};
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::house::{House, PATIENCE, Script, Work};

/// Runs as the script says, and has no hook.
struct WithoutHook(Script<Work>);

impl Handler for WithoutHook {
    type Job = Work;

    async fn run(&self, job: &Work, context: &Context) -> Result<(), Failure> {
        self.0.run(job, context).await
    }
}

fn good(house: &House) -> WithoutHook {
    WithoutHook(house.good())
}

/// Runs jobs about `gated` until the gate opens.
fn gated(house: &House, gate: &Arc<Semaphore>) -> WithoutHook {
    let gate = Arc::clone(gate);
    WithoutHook(house.script(move |context| {
        let gate = Arc::clone(&gate);
        async move {
            if context.subject.as_deref() == Some("gated") {
                gate.acquire().await?.forget();
            }
            Ok(())
        }
    }))
}

/// Installs a trigger for removals: `slow` jobs wait for an advisory lock, `poison` ones are
/// refused, and the number of jobs of each statement is recorded.
async fn watched(house: &House) -> PgPool {
    let pool = PgPool::connect(&house.url).await.unwrap();
    sqlx::raw_sql(
        "create table removal (jobs bigint);
         create function check_removal() returns trigger language plpgsql as $$ begin
             if old.subject = 'slow' then perform pg_advisory_xact_lock_shared(1); end if;
             if old.subject = 'poison' then raise exception 'poison'; end if;
             return old;
         end $$;
         create function count_removals() returns trigger language plpgsql as $$ begin
             insert into removal select count(*) from gone having count(*) > 0;
             return null;
         end $$;
         create trigger check_removal before delete on job for each row execute function check_removal();
         create trigger count_removals after delete on job referencing old table as gone
             for each statement execute function count_removals();",
    )
    .execute(&pool)
    .await
    .unwrap();
    pool
}

/// Holds up removals of `slow` jobs until dropped.
async fn slow_down(pool: &PgPool) -> Transaction<'static, Postgres> {
    let mut tx = pool.begin().await.unwrap();
    sqlx::query("select pg_advisory_xact_lock(1)").execute(&mut *tx).await.unwrap();
    tx
}

async fn enqueue(house: &House, subject: &str, number: usize) -> Vec<Uuid> {
    let mut ids = Vec::new();
    for _ in 0..number {
        ids.push(house.enqueue::<Work>(Meta::new().subject(subject)).await);
    }
    ids
}

async fn all_are_done(house: &House, ids: &[Uuid]) {
    for id in ids {
        house.done(*id).await;
    }
}

async fn statements(pool: &PgPool) -> Vec<i64> {
    sqlx::query_scalar("select jobs from removal order by jobs desc").fetch_all(pool).await.unwrap()
}

#[tokio::test]
async fn jobs_that_end_during_a_statement_share_the_next_one() {
    let house = House::new().await;
    let pool = watched(&house).await;
    let slow = slow_down(&pool).await;
    let running = house.run(good(&house));
    let mut ids = enqueue(&house, "slow", 1).await;
    statements_wait_for_a_lock(&pool, 1, PATIENCE).await;
    let works = [Work::default(), Work::default(), Work::default(), Work::default()];
    let mut tx = pool.begin().await.unwrap();
    let enqueued = jobs::enqueue_all(&mut tx, works.iter().map(|work| (work, Meta::new()))).await;
    tx.commit().await.unwrap();
    house.wake.wake();
    house.seen.ran(5).await;
    slow.commit().await.unwrap();
    for enqueued in enqueued.unwrap() {
        let jobs::Enqueued::New(id) = enqueued else { panic!("a duplicate") };
        ids.push(id);
    }
    all_are_done(&house, &ids).await;
    running.end().await;
    assert_eq!(house.seen.count(), 5);
    let statements = statements(&pool).await;
    assert_eq!(statements.iter().sum::<i64>(), 5, "{statements:?}");
    assert!(statements[0] > 1, "{statements:?}");
}

#[tokio::test]
async fn a_job_that_can_not_be_removed_fails_and_the_others_are_removed() {
    let house = House::new().await;
    let pool = watched(&house).await;
    let slow = slow_down(&pool).await;
    let running = house.run(good(&house));
    let first = enqueue(&house, "slow", 1).await;
    statements_wait_for_a_lock(&pool, 1, PATIENCE).await;
    let poison = enqueue(&house, "poison", 1).await;
    let others = enqueue(&house, "other", 4).await;
    house.seen.ran(6).await;
    slow.commit().await.unwrap();
    all_are_done(&house, &first).await;
    all_are_done(&house, &others).await;
    let failed = house.has(poison[0], State::Failed).await;
    assert!(failed.errors[0].error.contains("poison"), "{:?}", failed.errors);
    assert_eq!(failed.errors.len(), 4, "{:?}", failed.errors);
    running.end().await;
    assert_eq!(house.seen.count(), 5 + 4, "each of the others ran once");
}

#[tokio::test]
async fn a_locked_job_is_removed_when_it_is_free_and_delays_no_other() {
    let house = House::new().await;
    let pool = watched(&house).await;
    let gate = Arc::new(Semaphore::new(0));
    let running = house.run(gated(&house, &gate));
    let ids = enqueue(&house, "gated", 5).await;
    house.seen.ran(5).await;
    let mut tx = pool.begin().await.unwrap();
    jobs::lock(&mut tx, &ids[2..3]).await.unwrap();
    gate.add_permits(5);
    for id in ids.iter().filter(|id| **id != ids[2]) {
        house.done(*id).await;
    }
    house.has(ids[2], State::Running).await;
    tx.commit().await.unwrap();
    house.done(ids[2]).await;
    running.end().await;
    assert_eq!(house.seen.count(), 5);
}

#[tokio::test]
async fn a_statement_that_hangs_delays_others_for_a_moment() {
    let house = House::new().await;
    let pool = watched(&house).await;
    let slow = slow_down(&pool).await;
    let running = house.run(good(&house));
    let first = enqueue(&house, "slow", 1).await;
    statements_wait_for_a_lock(&pool, 1, PATIENCE).await;
    let others = enqueue(&house, "other", 12).await;
    all_are_done(&house, &others).await;
    statements_wait_for_a_lock(&pool, 1, PATIENCE).await;
    slow.commit().await.unwrap();
    all_are_done(&house, &first).await;
    running.end().await;
    assert_eq!(house.seen.count(), 13);
}

#[tokio::test]
async fn a_job_whose_worker_dies_before_it_is_removed_runs_again() {
    let house = House::new().await;
    let pool = watched(&house).await;
    let slow = slow_down(&pool).await;
    let killed = crate::crashes::Process::start(&house, good(&house));
    let ids = enqueue(&house, "slow", 3).await;
    house.seen.ran(3).await;
    statements_wait_for_a_lock(&pool, 1, PATIENCE).await;
    killed.kill();
    // Postgres does not notice the kill, and would remove the jobs. Its uncommitted statement ends
    // with the connection.
    let ended = async || {
        let ended: i64 = sqlx::query_scalar(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity
             where datname = current_database() and wait_event_type = 'Lock'",
        )
        .fetch_one(&pool)
        .await
        .unwrap();
        (ended == 0).then_some(())
    };
    eventually("no statement of the killed worker", PATIENCE, ended).await;
    slow.commit().await.unwrap();
    let running = house.run(good(&house));
    all_are_done(&house, &ids).await;
    running.end().await;
    for id in ids {
        let runs = house.seen.runs.lock().unwrap();
        assert_eq!(runs.iter().filter(|run| run.id == id).count(), 2);
    }
}

#[tokio::test]
async fn a_job_that_has_another_worker_or_attempt_is_not_removed() {
    let mut house = House::new().await;
    house.options.lease = Duration::from_mins(1);
    let gate = Arc::new(Semaphore::new(0));
    let running = house.run(gated(&house, &gate));
    let ids = enqueue(&house, "gated", 4).await;
    house.seen.ran(4).await;
    for (id, change) in ids.iter().zip(["worker = gen_random_uuid()", "attempts = attempts + 1"]) {
        let change = sqlx::AssertSqlSafe(format!("update job set {change} where id = $1"));
        sqlx::query(change).bind(id).execute(&house.pool).await.unwrap();
    }
    gate.add_permits(4);
    all_are_done(&house, &ids[2..]).await;
    let late = async || (house.seen.now() == 0).then_some(());
    eventually("all to have ended", PATIENCE, late).await;
    for id in &ids[..2] {
        house.has(*id, State::Running).await;
    }
    running.end().await;
    house.has(ids[0], State::Running).await;
    assert!(jobs::find(&house.pool, ids[1]).await.unwrap().is_some());
}

#[tokio::test]
async fn a_job_that_is_restarted_while_it_runs_runs_again() {
    let house = House::new().await;
    let gate = Arc::new(Semaphore::new(0));
    let running = house.run(gated(&house, &gate));
    let id = enqueue(&house, "gated", 1).await[0];
    house.seen.ran(1).await;
    let mut tx = house.pool.begin().await.unwrap();
    let anew = Work { name: "anew".into() };
    assert_eq!(jobs::restart(&mut tx, [(id, &anew)]).await.unwrap(), [id]);
    tx.commit().await.unwrap();
    gate.add_permits(2);
    house.done(id).await;
    assert_eq!(house.seen.attempts(), [1, 1]);
    running.end().await;
}

#[tokio::test]
async fn jobs_that_ran_give_up_as_many_slots_as_there_are() {
    let house = House::new().await;
    let pool = watched(&house).await;
    let slow = slow_down(&pool).await;
    let ids = enqueue(&house, "slow", 40).await;
    let running = house.run(good(&house));
    house.seen.ran(16).await;
    // One together, and others alone since that takes too long.
    statements_wait_for_a_lock(&pool, 3, PATIENCE).await;
    assert_eq!(house.seen.count(), 16, "8 that may run at once, and 8 that have run");
    assert!(house.seen.most_at_once() <= 8);
    slow.commit().await.unwrap();
    all_are_done(&house, &ids).await;
    running.end().await;
    assert_eq!(house.seen.count(), 40);
    assert!(house.seen.most_at_once() <= 8);
}
