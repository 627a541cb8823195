//! Tests with workers, and a database, that die or freeze.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use jobs::{Failure, Handler, Meta, State};
use sandbox::testing::eventually;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::house::{House, PATIENCE, Refused, Script, Work, down};

/// A worker with a separate runtime and pool, like a process.
pub(crate) struct Process(tokio::runtime::Runtime);

impl Process {
    pub(crate) fn start<H: Handler>(house: &House, handler: H) -> Self {
        let threads = tokio::runtime::Builder::new_multi_thread();
        let runtime = { threads }.worker_threads(1).enable_all().build().unwrap();
        let (url, wake) = (house.url.clone(), jobs::WorkerWaker::default());
        let (options, meter) = (house.options.clone(), house.metrics.meter("jobs"));
        runtime.spawn(async move {
            let pool = PgPool::connect(&url).await.unwrap();
            let worker = jobs::Worker::new(pool, wake, &meter).options(options).handle(handler);
            worker.run(CancellationToken::new()).await;
        });
        Self(runtime)
    }

    /// Ends the worker, which then releases, renews and records nothing any more.
    pub(crate) fn kill(self) {
        self.0.shutdown_background();
    }
}

#[tokio::test]
async fn the_job_of_a_worker_that_was_killed_is_run_by_another() {
    let house = House::new().await;
    let killed = Process::start(&house, house.endless::<Work>());
    let id = house.enqueue::<Work>(Meta::new()).await;
    house.seen.ran(1).await;
    killed.kill();
    let job = house.has(id, State::Running).await;
    assert_eq!(job.record.attempts, 1);
    let running = house.run(house.good::<Work>());
    house.done(id).await;
    assert_eq!(house.seen.attempts(), [1, 1], "it may have been another job that killed it");
    assert_eq!(house.effects(id).await, [("done".to_owned(), 1)]);
    running.end().await;
}

/// Runs jobs about `killer` and `slow` until their worker is killed, and others a little while.
fn with_a_killer(house: &House) -> Script<Work> {
    house.script::<Work, _>(|context| async move {
        match context.subject.as_deref() {
            Some("killer" | "slow") => std::future::pending::<()>().await,
            _ => tokio::time::sleep(Duration::from_millis(100)).await,
        }
        Ok(())
    })
}

#[tokio::test]
async fn a_killer_is_blamed_and_a_bystander_is_not() {
    let mut house = House::new().await;
    house.options.lease = Duration::from_millis(400);
    let killer = house.enqueue::<Work>(Meta::new().subject("killer")).await;
    let mut bystanders = Vec::new();
    for _ in 0..7 {
        bystanders.push(house.enqueue::<Work>(Meta::new().subject("slow")).await);
    }
    let first = Process::start(&house, with_a_killer(&house));
    house.seen.ran(8).await;
    first.kill();
    // From now on they are no longer slow.
    sqlx::query("update job set subject = 'quick' where subject = 'slow'")
        .execute(&house.pool)
        .await
        .unwrap();
    let other = house.enqueue::<Work>(Meta::new().subject("other")).await;
    for life in 1..=4 {
        let process = Process::start(&house, with_a_killer(&house));
        let runs = async || {
            let runs = house.seen.runs.lock().unwrap();
            let of_killer = runs.iter().filter(|run| run.id == killer).count();
            (of_killer == life + 1).then_some(())
        };
        eventually("the killer to run", PATIENCE, runs).await;
        process.kill();
    }
    let running = house.run(with_a_killer(&house));
    let job = house.has(killer, State::Failed).await;
    let counted: Vec<_> = job.errors.iter().map(|error| error.attempt).collect();
    assert_eq!(counted, [1, 1, 2, 3, 4, 5], "the first time it was not known who it was");
    for id in bystanders.into_iter().chain([other]) {
        house.done(id).await;
        assert_eq!(house.effects(id).await, [("done".to_owned(), 1)], "its attempt did not count");
    }
    running.end().await;
}

#[tokio::test]
async fn a_job_whose_worker_died_runs_alone() {
    let mut house = House::new().await;
    house.options.lease = Duration::from_millis(400);
    for _ in 0..6 {
        house.enqueue::<Work>(Meta::new().subject("slow")).await;
    }
    let first = Process::start(&house, with_a_killer(&house));
    house.seen.ran(6).await;
    first.kill();
    sqlx::query("update job set subject = 'quick' where subject = 'slow'")
        .execute(&house.pool)
        .await
        .unwrap();
    let (runs, at_once) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
    let script = {
        let (runs, at_once) = (Arc::clone(&runs), Arc::clone(&at_once));
        house.script::<Work, _>(move |context| {
            let (runs, at_once) = (Arc::clone(&runs), Arc::clone(&at_once));
            async move {
                let others = at_once.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(50)).await;
                let others = others.max(at_once.fetch_sub(1, Ordering::SeqCst) - 1);
                runs.lock().unwrap().push((context.subject.unwrap(), others));
                Ok(())
            }
        })
    };
    let running = house.run(script);
    let left = async || {
        house.enqueue::<Work>(Meta::new().subject("new")).await;
        let runs = runs.lock().unwrap();
        (runs.iter().filter(|(subject, _)| subject == "quick").count() == 6).then_some(())
    };
    eventually("all six", PATIENCE, left).await;
    running.end().await;
    let runs = runs.lock().unwrap();
    for (subject, others) in runs.iter().filter(|(subject, _)| subject == "quick") {
        assert_eq!(*others, 0, "beside {subject}");
    }
    assert!(runs.iter().any(|(subject, _)| subject == "new"), "others ran in between: {runs:?}");
}

/// Runs a job about `slow` until its worker is killed, and leaves it to the next ones.
async fn left_behind(house: &House) -> Uuid {
    let id = house.enqueue::<Work>(Meta::new().subject("slow")).await;
    let first = Process::start(house, with_a_killer(house));
    house.seen.ran(house.seen.count() + 1).await;
    first.kill();
    id
}

/// Waits until a job runs that is a suspect, or that is none any more.
async fn runs_as(house: &House, id: Uuid, is_suspect: bool) {
    let runs = async || {
        let runs: bool = sqlx::query_scalar(
            "select worker is not null and run_at > now() and suspect = $2 from job where id = $1",
        )
        .bind(id)
        .bind(is_suspect)
        .fetch_one(&house.pool)
        .await
        .unwrap();
        runs.then_some(())
    };
    eventually("the suspect to run", PATIENCE, runs).await;
}

#[tokio::test]
async fn a_suspect_that_hangs_holds_the_others_up_for_some_seconds_and_no_more() {
    let mut house = House::new().await;
    house.options.lease = Duration::from_millis(400);
    left_behind(&house).await;
    house.options.drain = Duration::from_millis(50);
    let running = house.run(with_a_killer(&house));
    house.seen.ran(2).await;
    let began = Instant::now();
    let id = house.enqueue::<Work>(Meta::new().subject("new")).await;
    house.done(id).await;
    assert!(began.elapsed() < Duration::from_millis(4_500), "{:?}", began.elapsed());
    running.end().await;
}

#[tokio::test]
async fn suspects_that_hang_hold_the_others_up_for_a_tenth_of_the_time() {
    const MEASURED: Duration = Duration::from_secs(10);
    let mut house = House::new().await;
    house.options.lease = Duration::from_millis(400);
    house.options.alone = Duration::from_millis(300);
    house.options.drain = Duration::from_millis(50);
    for _ in 0..3 {
        house.enqueue::<Work>(Meta::new().subject("slow")).await;
    }
    let first = Process::start(&house, with_a_killer(&house));
    house.seen.ran(3).await;
    first.kill();
    let starts = Arc::new(Mutex::new(Vec::new()));
    let script = {
        let starts = Arc::clone(&starts);
        house.script::<Work, _>(move |context| {
            let is_new = context.subject.as_deref() == Some("new");
            if is_new {
                starts.lock().unwrap().push(Instant::now());
            }
            async move {
                if !is_new {
                    std::future::pending::<()>().await;
                }
                Ok(())
            }
        })
    };
    let running = house.run(script);
    house.seen.ran(4).await;
    let began = Instant::now();
    while began.elapsed() < MEASURED {
        house.enqueue::<Work>(Meta::new().subject("new")).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    running.end().await;
    let starts = starts.lock().unwrap();
    let first = began.max(starts[0]);
    let pauses = starts.windows(2).map(|pair| pair[1] - pair[0]);
    let held_up = pauses.filter(|pause| *pause > Duration::from_millis(90)).sum::<Duration>();
    let held_up = held_up + (first - began);
    let share = held_up.as_secs_f64() / MEASURED.as_secs_f64();
    eprintln!("beside three suspects that hang, others were held up for {held_up:?}: {share:.2}");
    // A slow machine has pauses of its own.
    assert!(share < 0.2, "{share:.2}");
    assert!(starts.len() > 100, "{}", starts.len());
}

#[tokio::test]
async fn a_suspect_waits_for_a_job_that_hangs_and_the_others_do_not() {
    let mut house = House::new().await;
    house.options.alone = Duration::from_millis(300);
    let hangs = Arc::new(AtomicBool::new(false));
    let runs = Arc::new(Mutex::new(Vec::new()));
    let script = {
        let (hangs, runs) = (Arc::clone(&hangs), Arc::clone(&runs));
        house.script::<Work, _>(move |context| {
            let (hangs, runs) = (Arc::clone(&hangs), Arc::clone(&runs));
            async move {
                let subject = context.subject.unwrap();
                runs.lock().unwrap().push((subject.clone(), hangs.load(Ordering::SeqCst)));
                if subject == "hanging" {
                    hangs.store(true, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_secs(7)).await;
                    hangs.store(false, Ordering::SeqCst);
                }
                Ok(())
            }
        })
    };
    let running = house.run(script);
    house.enqueue::<Work>(Meta::new().subject("hanging")).await;
    house.seen.ran(1).await;
    sqlx::query(
        "insert into job (id, kind, payload, subject, attempts, suspect)
         values (gen_random_uuid(), 'work', '{\"name\": \"\"}', 'suspect', 0, true)",
    )
    .execute(&house.pool)
    .await
    .unwrap();
    let has_run = async || {
        house.enqueue::<Work>(Meta::new().subject("new")).await;
        runs.lock().unwrap().iter().any(|(subject, _)| subject == "suspect").then_some(())
    };
    eventually("the suspect to run", PATIENCE, has_run).await;
    running.end().await;
    let runs = runs.lock().unwrap();
    let beside =
        |wanted: &str| runs.iter().filter(|(subject, hangs)| subject == wanted && *hangs).count();
    assert_eq!(beside("suspect"), 0, "it was alone");
    assert!(beside("new") > 50, "others went on: {}", beside("new"));
}

#[tokio::test]
async fn a_suspect_that_was_alone_for_its_window_is_not_blamed_for_what_happens_beside_others() {
    let mut house = House::new().await;
    house.options.lease = Duration::from_millis(400);
    house.options.alone = Duration::from_millis(300);
    let id = left_behind(&house).await;
    let second = Process::start(&house, with_a_killer(&house));
    house.seen.ran(2).await;
    let other = house.enqueue::<Work>(Meta::new().subject("new")).await;
    house.done(other).await;
    second.kill();
    let running = house.run(house.good::<Work>());
    house.done(id).await;
    assert_eq!(house.seen.attempts(), [1, 1, 1, 1], "no attempt at it was counted");
    assert_eq!(house.effects(id).await, [("done".to_owned(), 1)]);
    running.end().await;
}

#[tokio::test]
async fn a_job_that_kills_its_worker_slowly_is_blamed_in_the_end() {
    let mut house = House::new().await;
    house.options.lease = Duration::from_millis(400);
    house.options.alone = Duration::from_secs(1);
    let id = left_behind(&house).await;
    // It kills after more than a window, but less than two.
    let second = Process::start(&house, with_a_killer(&house));
    runs_as(&house, id, true).await;
    runs_as(&house, id, false).await;
    second.kill();
    let third = Process::start(&house, with_a_killer(&house));
    runs_as(&house, id, true).await;
    tokio::time::sleep(Duration::from_millis(1_300)).await;
    third.kill();
    let running = house.run(house.good::<Work>());
    house.done(id).await;
    assert_eq!(house.seen.attempts(), [1, 1, 1, 2]);
    running.end().await;
}

#[tokio::test]
async fn a_job_that_kills_its_worker_each_time_fails_after_four_runs_alone() {
    let mut house = House::new().await;
    house.options.lease = Duration::from_millis(300);
    let id = house.enqueue::<Work>(Meta::new()).await;
    for life in 1..=5 {
        let process = Process::start(&house, house.endless::<Work>());
        house.seen.ran(life).await;
        process.kill();
    }
    let running = house.run(house.good::<Work>());
    let job = house.has(id, State::Failed).await;
    assert_eq!(house.seen.attempts(), [1, 1, 2, 3, 4]);
    let errors: Vec<_> = job.errors.iter().map(|e| (e.attempt, e.error.as_str())).collect();
    let first =
        "it did not end: its worker died while it ran others too; not counted, and run alone next";
    let died = "it did not end: its worker died, or was away for longer than its lease";
    let all = "all attempts are used up; the last one ended without a result";
    assert_eq!(errors, [(1, first), (1, died), (2, died), (3, died), (4, died), (5, all)]);
    assert_eq!(house.effects(id).await, [("failed".to_owned(), 5)]);
    running.end().await;
}

#[tokio::test]
async fn the_late_success_of_a_worker_that_was_frozen_is_ignored() {
    let house = House::new().await;
    let (thaw, frozen) = mpsc::channel::<()>();
    let frozen = std::sync::Mutex::new(frozen);
    // The job blocks the only thread of its process, so that its lease is not renewed either.
    let freezing = house.script::<Work, _>(move |_| {
        let _ = frozen.lock().unwrap().recv();
        async { Ok(()) }
    });
    let process = Process::start(&house, freezing);
    let id = house.enqueue::<Work>(Meta::new()).await;
    house.seen.ran(1).await;

    let running = house.run(house.failing::<Work>(2));
    let second = async || (house.has(id, State::Waiting).await.record.attempts == 2).then_some(());
    sandbox::testing::eventually("the failure of attempt 2", crate::house::PATIENCE, second).await;
    // For good: it may be the one that takes the third attempt.
    drop(thaw);
    house.done(id).await;
    assert_eq!(house.seen.attempts(), [1, 1, 2, 3]);
    assert_eq!(
        house.effects(id).await,
        [("done".to_owned(), 3)],
        "the first one's counts for nothing"
    );
    running.end().await;
    process.kill();
}

#[tokio::test]
async fn a_worker_goes_on_when_the_database_ends_its_connections() {
    let house = House::new().await;
    let act = |_| async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        Ok(())
    };
    let process = Process::start(&house, house.script::<Work, _>(act));
    let mut ids = Vec::new();
    for _ in 0..5 {
        for _ in 0..20 {
            ids.push(house.enqueue::<Work>(Meta::new()).await);
        }
        let ended: i64 = sqlx::query_scalar(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity
             where datname = current_database() and pid <> pg_backend_pid()",
        )
        .fetch_one(&house.pool)
        .await
        .unwrap();
        assert!(ended > 0);
    }
    for id in ids {
        let gone = async || {
            let job = jobs::find(&house.pool, id).await;
            matches!(job, Ok(None)).then_some(())
        };
        sandbox::testing::eventually("the job to be done", crate::house::PATIENCE, gone).await;
        assert_eq!(house.effects(id).await.len(), 1, "done once, whatever was run twice");
    }
    process.kill();
}

#[tokio::test]
async fn short_suspects_are_done_soon_beside_a_target_that_hangs() {
    const SUSPECTS: i64 = 48;
    let mut house = House::new().await;
    house.options.alone = Duration::from_millis(600);
    let (at_once, beside) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let script = {
        let (at_once, beside) = (Arc::clone(&at_once), Arc::clone(&beside));
        house.script::<Work, _>(move |context| {
            let (at_once, beside) = (Arc::clone(&at_once), Arc::clone(&beside));
            async move {
                let others = at_once.fetch_add(1, Ordering::SeqCst);
                if context.subject.as_deref() == Some("hanging") {
                    tokio::time::sleep(Duration::from_millis(350)).await;
                } else {
                    beside.fetch_max(others, Ordering::SeqCst);
                }
                at_once.fetch_sub(1, Ordering::SeqCst);
                Ok(())
            }
        })
    };
    sqlx::query(
        "insert into job (id, kind, payload, subject, suspect)
         select gen_random_uuid(), 'work', '{\"name\": \"\"}', 'suspect', true from generate_series(1, $1)",
    )
    .bind(SUSPECTS)
    .execute(&house.pool)
    .await
    .unwrap();
    house.enqueue::<Work>(Meta::new().subject("hanging")).await;
    let running = house.run(script);
    // Each would take a second and more if it had to wait for a quiet moment of its own.
    eventually("all suspects to be done", Duration::from_secs(45), async || {
        let (hanging, suspects): (i64, i64) = sqlx::query_as(
            "select count(*) filter (where subject = 'hanging'), count(*) filter (where subject = 'suspect') from job",
        )
        .fetch_one(&house.pool)
        .await
        .unwrap();
        if hanging < 2 {
            house.enqueue::<Work>(Meta::new().subject("hanging")).await;
        }
        (suspects == 0).then_some(())
    })
    .await;
    running.end().await;
    assert_eq!(beside.load(Ordering::SeqCst), 0, "each was alone");
}

/// Restarts a job that runs, in its fourth attempt.
async fn restart_in_attempt_4(house: &House, id: Uuid) {
    house.has(id, State::Running).await;
    let mut tx = house.pool.begin().await.unwrap();
    assert_eq!(jobs::restart(&mut tx, [(id, &Work::default())]).await.unwrap(), [id]);
    tx.commit().await.unwrap();
}

async fn enqueue_after_three_attempts(house: &House) -> Uuid {
    let id = house.enqueue::<Work>(Meta::new()).await;
    let tried = sqlx::query("update job set attempts = 3").execute(&house.pool).await;
    assert_eq!(tried.unwrap().rows_affected(), 1);
    id
}

#[tokio::test]
async fn a_job_that_was_restarted_in_an_attempt_has_all_its_attempts_if_its_worker_ends() {
    let mut house = House::new().await;
    house.options.drain = Duration::from_millis(50);
    let id = enqueue_after_three_attempts(&house).await;
    let running = house.run(house.endless::<Work>());
    restart_in_attempt_4(&house, id).await;
    running.end().await;
    assert_eq!(house.has(id, State::Waiting).await.record.attempts, 0);
    let running = house.run(house.good::<Work>());
    house.done(id).await;
    assert_eq!(house.seen.attempts(), [4, 1]);
    running.end().await;
}

#[tokio::test]
async fn a_job_that_was_restarted_in_an_attempt_has_all_its_attempts_if_its_worker_dies() {
    let mut house = House::new().await;
    house.options.lease = Duration::from_millis(400);
    let id = enqueue_after_three_attempts(&house).await;
    let first = Process::start(&house, house.endless::<Work>());
    restart_in_attempt_4(&house, id).await;
    first.kill();
    let second = Process::start(&house, house.endless::<Work>());
    runs_as(&house, id, true).await;
    house.seen.ran(2).await;
    assert_eq!(house.seen.attempts(), [4, 1], "and is a suspect");
    second.kill();
    let running = house.run(house.good::<Work>());
    house.done(id).await;
    assert_eq!(house.seen.attempts(), [4, 1, 2], "the one alone counts");
    running.end().await;
}

#[tokio::test]
async fn a_suspect_that_is_deferred_stays_a_suspect() {
    let house = House::new().await;
    let id = house.enqueue::<Work>(Meta::new()).await;
    sqlx::query("update job set suspect = true").execute(&house.pool).await.unwrap();
    let running = house.run(house.script::<Work, _>(|_| async {
        Err(Failure::deferred(Refused(down()), Duration::from_hours(1)))
    }));
    house.seen.ran(1).await;
    house.has(id, State::Waiting).await;
    let suspect: bool =
        sqlx::query_scalar("select suspect from job").fetch_one(&house.pool).await.unwrap();
    assert!(suspect, "nothing was attempted");
    running.end().await;
}

#[tokio::test]
async fn a_retry_and_a_restart_forget_suspicions() {
    let house = House::new().await;
    let ids = [
        house.enqueue::<Work>(Meta::new()).await,
        house.enqueue::<Work>(Meta::new()).await,
        house.enqueue::<Work>(Meta::new()).await,
    ];
    sqlx::query("update job set suspicions = 5, failed_at = now()")
        .execute(&house.pool)
        .await
        .unwrap();
    assert!(jobs::retry(&house.pool, ids[0]).await.unwrap());
    let second = jobs::Selection::Ids(vec![ids[1]]);
    assert_eq!(jobs::retry_all(&house.pool, &second).await.unwrap().jobs, 1);
    let mut tx = house.pool.begin().await.unwrap();
    jobs::restart(&mut tx, [(ids[2], &Work::default())]).await.unwrap();
    tx.commit().await.unwrap();
    let suspicions: i64 =
        sqlx::query_scalar("select sum(suspicions) from job").fetch_one(&house.pool).await.unwrap();
    assert_eq!(suspicions, 0);
}
