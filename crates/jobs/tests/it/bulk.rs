//! Tests of an operator's changes of many jobs at once.

use std::time::Duration;

use jobs::{Changed, Filter, JobsError, Meta, Selection, State, discard_all, retry_all};
use sandbox::testing::eventually;
use uuid::Uuid;

use crate::house::{Brief, House, PATIENCE, Work};

const MANY: i64 = 20_000;

fn of_kind(kind: &str) -> Selection {
    Selection::Filter(Filter { kind: Some(kind.to_owned()), ..Filter::default() })
}

fn in_state(state: State) -> Selection {
    Selection::Filter(Filter { state: Some(state), ..Filter::default() })
}

impl House {
    /// Enqueues a job that has failed for good already.
    async fn failed<J: jobs::Job + Default>(&self, meta: Meta) -> Uuid {
        let id = self.enqueue::<J>(meta).await;
        self.fail(id).await;
        id
    }

    async fn fail(&self, id: Uuid) {
        sqlx::query("update job set failed_at = clock_timestamp(), attempts = 4 where id = $1")
            .bind(id)
            .execute(&self.pool)
            .await
            .unwrap();
    }

    /// Writes that many failed jobs, and returns the id of the one in their middle.
    async fn many_failed(&self) -> Uuid {
        sqlx::query(
            "insert into job (id, kind, payload, failed_at)
             select ('01900000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'many', '{}', now()
             from generate_series(1, $1) as n",
        )
        .bind(MANY)
        .execute(&self.pool)
        .await
        .unwrap();
        format!("01900000-0000-7000-8000-{:012x}", MANY / 2).parse().unwrap()
    }

    async fn count(&self, condition: &'static str) -> i64 {
        let count = format!("select count(*) from job where {condition}");
        sqlx::query_scalar(sqlx::AssertSqlSafe(count)).fetch_one(&self.pool).await.unwrap()
    }

    async fn state(&self, id: Uuid) -> State {
        jobs::find(&self.pool, id).await.unwrap().unwrap().record.state
    }

    async fn until(&self, what: &str, condition: &'static str, at_least: i64) {
        let enough = async || (self.count(condition).await >= at_least).then_some(());
        eventually(what, PATIENCE, enough).await;
    }

    /// Waits until a statement that changes many jobs waits for a lock.
    async fn until_blocked(&self) {
        let blocked = async || {
            let pid: Option<i32> = sqlx::query_scalar(
                "select pid from pg_stat_activity where datname = current_database()
                     and wait_event_type = 'Lock' and query like 'with chosen%'",
            )
            .fetch_optional(&self.pool)
            .await
            .unwrap();
            pid
        };
        eventually("a statement that waits", PATIENCE, blocked).await;
    }
}

#[tokio::test]
async fn failed_jobs_of_a_filter_are_retried_and_others_left_alone() {
    let house = House::new().await;
    let failed = [
        house.failed::<Work>(Meta::new()).await,
        house.failed::<Work>(Meta::new().subject("s")).await,
    ];
    let other = house.failed::<Brief>(Meta::new()).await;
    let later = house.enqueue::<Work>(Meta::new().after(Duration::from_hours(1))).await;
    let changed = retry_all(&house.pool, &of_kind("work")).await.unwrap();
    assert_eq!(changed, Changed { jobs: 2, skipped: 0 });
    for id in failed {
        let job = jobs::find(&house.pool, id).await.unwrap().unwrap();
        assert_eq!((job.record.state, job.record.attempts), (State::Waiting, 0));
    }
    assert_eq!(house.state(other).await, State::Failed);
    assert_eq!(house.count("run_at > now() + interval '30 minutes'").await, 1, "{later} waits on");
    let again = retry_all(&house.pool, &of_kind("work")).await.unwrap_err();
    assert!(matches!(&again, JobsError::Conflict(why) if why.contains("has failed")), "{again:?}");
    let waiting = retry_all(&house.pool, &in_state(State::Waiting)).await.unwrap_err();
    assert!(matches!(waiting, JobsError::Conflict(_)), "{waiting:?}");
}

#[tokio::test]
async fn of_one_unique_key_at_most_one_job_waits_again() {
    let house = House::new().await;
    let unique = |key: &str| Meta::new().unique(key);
    house.failed::<Work>(unique("two failed")).await;
    let newest = house.failed::<Work>(unique("two failed")).await;
    let behind = house.failed::<Work>(unique("one waits")).await;
    house.enqueue::<Work>(unique("one waits")).await;
    // The same key of another kind is another key.
    house.failed::<Brief>(unique("one waits")).await;
    let changed = retry_all(&house.pool, &in_state(State::Failed)).await.unwrap();
    assert_eq!(changed, Changed { jobs: 2, skipped: 2 });
    assert_eq!(house.state(newest).await, State::Waiting);
    let again = retry_all(&house.pool, &Selection::Ids(vec![behind])).await.unwrap_err();
    assert!(matches!(&again, JobsError::Conflict(why) if why.contains("unique key")), "{again:?}");
}

#[tokio::test]
async fn a_twin_that_is_enqueued_meanwhile_keeps_out_only_its_own() {
    let house = House::new().await;
    let failed = house.failed::<Work>(Meta::new().unique("one")).await;
    let other = house.failed::<Work>(Meta::new().unique("other")).await;
    let mut tx = house.pool.begin().await.unwrap();
    jobs::enqueue(&mut tx, &Work::default(), Meta::new().unique("one")).await.unwrap();
    let (pool, all) = (house.pool.clone(), of_kind("work"));
    let retrying = tokio::spawn(async move { retry_all(&pool, &all).await });
    house.until_blocked().await;
    tx.commit().await.unwrap();
    assert_eq!(retrying.await.unwrap().unwrap(), Changed { jobs: 1, skipped: 1 });
    assert_eq!(house.state(failed).await, State::Failed);
    assert_eq!(house.state(other).await, State::Waiting);
}

#[tokio::test]
async fn an_unknown_id_is_named_and_nothing_is_changed() {
    let house = House::new().await;
    let failed = house.failed::<Work>(Meta::new()).await;
    let unknown = Uuid::now_v7();
    let ids = Selection::Ids(vec![failed, unknown]);
    for error in [retry_all(&house.pool, &ids).await, discard_all(&house.pool, &ids).await] {
        let error = error.unwrap_err();
        assert!(
            matches!(&error, JobsError::NotFound(why) if why.contains(&unknown.to_string())),
            "{error:?}"
        );
    }
    assert_eq!(house.state(failed).await, State::Failed);
    // An id that is there twice is one job.
    let twice = Selection::Ids(vec![failed, failed]);
    assert_eq!(retry_all(&house.pool, &twice).await.unwrap(), Changed { jobs: 1, skipped: 0 });
}

#[tokio::test]
async fn what_failed_or_waits_is_discarded_and_what_runs_is_counted() {
    let house = House::new().await;
    let running = house.run(house.endless::<Work>());
    let runs = house.enqueue::<Work>(Meta::new()).await;
    house.has(runs, State::Running).await;
    let failed = house.failed::<Brief>(Meta::new()).await;
    let waits = house.enqueue::<Brief>(Meta::new()).await;
    let all = Selection::Filter(Filter::default());
    let only = discard_all(&house.pool, &in_state(State::Running)).await.unwrap_err();
    assert!(matches!(&only, JobsError::Conflict(why) if why.contains("run")), "{only:?}");
    let changed = discard_all(&house.pool, &all).await.unwrap();
    assert_eq!(changed, Changed { jobs: 2, skipped: 1 });
    for id in [failed, waits] {
        assert_eq!(jobs::find(&house.pool, id).await.unwrap(), None);
    }
    house.has(runs, State::Running).await;
    running.end().await;
}

#[tokio::test]
async fn jobs_that_are_enqueued_or_fail_after_those_that_were_shown_are_left_alone() {
    let house = House::new().await;
    let shown = house.failed::<Work>(Meta::new()).await;
    let waited = house.enqueue::<Work>(Meta::new()).await;
    let page = jobs::list(&house.pool, &Filter::default(), 10, None).await.unwrap();
    let times = page.jobs.iter().flat_map(|it| [Some(it.created_at), it.failed_at]);
    let until = times.flatten().max();
    let enqueued = house.enqueue::<Work>(Meta::new()).await;
    house.fail(waited).await;
    let chosen = Selection::Filter(Filter { until, ..Filter::default() });
    let changed = discard_all(&house.pool, &chosen).await.unwrap();
    assert_eq!(changed, Changed { jobs: 1, skipped: 0 });
    assert_eq!(jobs::find(&house.pool, shown).await.unwrap(), None);
    assert_eq!(house.state(waited).await, State::Failed, "it was shown as waiting");
    assert_eq!(house.state(enqueued).await, State::Waiting);
}

#[tokio::test]
async fn many_jobs_are_changed_in_chunks_and_each_once() {
    let house = House::new().await;
    let middle = house.many_failed().await;
    // It comes last, and has not failed yet.
    let late = Uuid::from_u128(1);
    sqlx::query("insert into job (id, kind, payload) values ($1, 'many', '{}')")
        .bind(late)
        .execute(&house.pool)
        .await
        .unwrap();
    let mut tx = house.pool.begin().await.unwrap();
    sqlx::query("select 1 from job where id = $1 for update")
        .bind(middle)
        .execute(&mut *tx)
        .await
        .unwrap();
    let pool = house.pool.clone();
    let retrying = tokio::spawn(async move { retry_all(&pool, &of_kind("many")).await });
    // One job is locked, and the half before it is retried and free.
    house.until("half of them", "failed_at is null", MANY / 2 - 1_000).await;
    house.until_blocked().await;
    let first: Uuid = sqlx::query_scalar("select max(id::text)::uuid from job")
        .fetch_one(&house.pool)
        .await
        .unwrap();
    house.fail(first).await;
    house.fail(late).await;
    tx.rollback().await.unwrap();
    let changed = retrying.await.unwrap().unwrap();
    assert_eq!(changed, Changed { jobs: MANY.unsigned_abs(), skipped: 0 });
    assert_eq!(
        house.state(first).await,
        State::Failed,
        "it failed again, and is not retried twice"
    );
    assert_eq!(house.state(late).await, State::Failed, "it failed after the request");
    assert_eq!(house.count("failed_at is not null").await, 2);

    let discarded = discard_all(&house.pool, &of_kind("many")).await.unwrap();
    assert_eq!(discarded, Changed { jobs: MANY.unsigned_abs() + 1, skipped: 0 });
}

#[tokio::test]
async fn a_request_that_is_cut_off_tells_how_far_it_came_and_can_be_repeated() {
    let house = House::new().await;
    let middle = house.many_failed().await;
    let mut tx = house.pool.begin().await.unwrap();
    sqlx::query("select 1 from job where id = $1 for update")
        .bind(middle)
        .execute(&mut *tx)
        .await
        .unwrap();
    let pool = house.pool.clone();
    let retrying = tokio::spawn(async move { retry_all(&pool, &of_kind("many")).await });
    house.until_blocked().await;
    sqlx::query(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database()
             and wait_event_type = 'Lock' and query like 'with chosen%'",
    )
    .execute(&house.pool)
    .await
    .unwrap();
    let error = retrying.await.unwrap().unwrap_err();
    let JobsError::Interrupted { changed, .. } = error else { panic!("{error:?}") };
    assert_eq!(i64::try_from(changed).unwrap(), house.count("failed_at is null").await);
    tx.rollback().await.unwrap();
    let rest = retry_all(&house.pool, &of_kind("many")).await.unwrap();
    assert_eq!(changed + rest.jobs, MANY.unsigned_abs());
}
