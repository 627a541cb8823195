//! Tests of an operator's reads and changes of single jobs.

use std::sync::{Arc, Mutex};

use jobs::{Context, Failure, Filter, Handler, Meta, Page, State};
use sandbox::testing::eventually;
use sqlx::PgConnection;
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::house::{Brief, House, PATIENCE, Refused, Work, down};

#[tokio::test]
async fn a_failed_job_is_retried_with_all_its_attempts_and_its_history() {
    let house = House::new().await;
    let running = house.run(house.failing::<Brief>(1));
    let id = house.enqueue::<Brief>(Meta::new()).await;
    house.has(id, State::Failed).await;
    assert!(jobs::retry(&house.pool, id).await.unwrap());
    let again = async || (house.has(id, State::Failed).await.errors.len() == 2).then_some(());
    eventually("a second failure", PATIENCE, again).await;
    running.end().await;

    let running = house.run(house.good::<Brief>());
    assert!(jobs::retry(&house.pool, id).await.unwrap());
    house.done(id).await;
    assert_eq!(house.seen.attempts(), [1, 1, 1]);
    assert!(!jobs::retry(&house.pool, id).await.unwrap(), "it is done");
    running.end().await;
}

#[tokio::test]
async fn a_failed_job_does_not_keep_out_its_successor_and_is_not_retried_beside_it() {
    let house = House::new().await;
    let running = house.run(house.failing::<Brief>(9));
    let failed = house.enqueue::<Brief>(Meta::new().unique("one")).await;
    house.has(failed, State::Failed).await;
    running.end().await;
    let next = house.enqueue::<Brief>(Meta::new().unique("one")).await;
    assert!(!jobs::retry(&house.pool, failed).await.unwrap());
    assert!(jobs::discard(&house.pool, next).await.unwrap());
    assert!(jobs::retry(&house.pool, failed).await.unwrap());
}

#[tokio::test]
async fn the_service_restarts_what_failed_or_waits_and_is_told_what_is_there() {
    let house = House::new().await;
    let later = Meta::new().id(Uuid::now_v7()).after(std::time::Duration::from_hours(1));
    let waits = house.enqueue::<Brief>(later.tenant("acme").lane("a")).await;
    let running = house.run(house.failing::<Brief>(9));
    let failed = house.enqueue::<Brief>(Meta::new()).await;
    house.has(failed, State::Failed).await;
    running.end().await;
    let record = house.has(waits, State::Waiting).await.record;
    assert_eq!((record.tenant.as_deref(), record.lane.as_deref()), (Some("acme"), Some("a")));

    let mut tx = house.pool.begin().await.unwrap();
    let asked = [failed, Uuid::now_v7(), waits].map(|id| (id, &Brief));
    let mut there = jobs::restart(&mut tx, asked).await.unwrap();
    tx.commit().await.unwrap();
    there.sort_unstable();
    assert_eq!(there, [waits, failed]);
    let running = house.run(house.good::<Brief>());
    house.done(failed).await;
    house.done(waits).await;
    running.end().await;
}

#[tokio::test]
async fn a_job_that_is_restarted_while_it_runs_runs_again_with_its_new_payload_however_its_attempt_ends()
 {
    for fails in [false, true] {
        let house = House::new().await;
        let (gate, notes) = (Arc::new(Semaphore::new(0)), Arc::new(Mutex::new(Vec::new())));
        let handler = Gated { gate: Arc::clone(&gate), notes: Arc::clone(&notes), fails };
        let running = house.run(handler);
        let id = house.enqueue::<Work>(Meta::new()).await;
        house.has(id, State::Running).await;
        let mut tx = house.pool.begin().await.unwrap();
        let new = Work { name: "second".into() };
        assert_eq!(jobs::restart(&mut tx, [(id, &new)]).await.unwrap(), [id]);
        tx.commit().await.unwrap();
        gate.add_permits(1);
        let second = async || {
            let runs = notes.lock().unwrap().iter().filter(|note| note.0 == "run").count();
            (runs == 2).then_some(())
        };
        eventually("a second run", PATIENCE, second).await;
        gate.add_permits(9);
        house.done(id).await;
        running.end().await;
        let notes = notes.lock().unwrap().clone();
        let expected = [
            ("run", "", 1),
            ("attempted", "", 1),
            ("run", "second", 1),
            ("attempted", "second", 1),
            ("done", "second", 1),
        ];
        let expected = expected.map(|(what, name, attempt)| (what, name.to_owned(), attempt));
        assert_eq!(notes, expected, "its first attempt fails: {fails}");
    }
}

type Note = (&'static str, String, u32);

/// Waits in each attempt until it is let through, and fails in that of the payload that it was
/// enqueued with.
struct Gated {
    gate: Arc<Semaphore>,
    notes: Arc<Mutex<Vec<Note>>>,
    fails: bool,
}

impl Gated {
    fn note(&self, what: &'static str, job: &Work, context: &Context) {
        self.notes.lock().unwrap().push((what, job.name.clone(), context.attempt));
    }
}

impl Handler for Gated {
    type Job = Work;

    async fn run(&self, job: &Work, context: &Context) -> Result<(), Failure> {
        self.note("run", job, context);
        self.gate.acquire().await.unwrap().forget();
        if self.fails && job.name.is_empty() {
            return Err(Failure::permanent(Refused(down())));
        }
        Ok(())
    }

    async fn attempted(
        &self,
        _: &mut PgConnection,
        job: &Work,
        context: &Context,
        failure: Option<&Failure>,
    ) -> sqlx::Result<()> {
        assert_eq!(failure.is_some(), self.fails && job.name.is_empty());
        self.note("attempted", job, context);
        Ok(())
    }

    async fn done(&self, _: &mut PgConnection, job: &Work, context: &Context) -> sqlx::Result<()> {
        self.note("done", job, context);
        Ok(())
    }

    async fn failed(
        &self,
        _: &mut PgConnection,
        job: &Work,
        context: &Context,
        _: &Failure,
    ) -> sqlx::Result<()> {
        self.note("failed", job, context);
        Ok(())
    }
}

#[tokio::test]
async fn what_failed_or_waits_can_be_discarded_and_what_runs_can_not() {
    let house = House::new().await;
    let worker = house.worker().handle(house.failing::<Brief>(9)).handle(house.endless::<Work>());
    let running = crate::house::run(worker);
    let failed = house.enqueue::<Brief>(Meta::new()).await;
    let runs = house.enqueue::<Work>(Meta::new()).await;
    house.has(failed, State::Failed).await;
    house.has(runs, State::Running).await;
    assert!(jobs::discard(&house.pool, failed).await.unwrap());
    assert!(!jobs::discard(&house.pool, failed).await.unwrap());
    assert!(!jobs::discard(&house.pool, runs).await.unwrap());
    assert!(!jobs::retry(&house.pool, runs).await.unwrap());
    house.has(runs, State::Running).await;
    running.end().await;
}

#[tokio::test]
async fn a_list_is_filtered_and_paged_and_shows_no_payload() {
    let house = House::new().await;
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(house.enqueue::<Work>(Meta::new().subject(format!("order-{}", n % 2))).await);
    }
    house.enqueue::<Brief>(Meta::new()).await;
    let page = async |filter: &Filter, limit, cursor| {
        jobs::list(&house.pool, filter, limit, cursor).await.unwrap()
    };
    let ids_of = |page: &Page| page.jobs.iter().map(|job| job.id).collect::<Vec<Uuid>>();
    let work = Filter { kind: Some("work".into()), ..Filter::default() };
    assert_eq!(page(&Filter::default(), 100, None).await.jobs.len(), 6);
    let first = page(&work, 2, None).await;
    assert_eq!((ids_of(&first), first.next_cursor), (vec![ids[4], ids[3]], Some(ids[3])));
    let second = page(&work, 2, first.next_cursor).await;
    assert_eq!((ids_of(&second), second.next_cursor), (vec![ids[2], ids[1]], Some(ids[1])));
    let last = page(&work, 1, second.next_cursor).await;
    assert_eq!((ids_of(&last), last.next_cursor), (vec![ids[0]], None));
    let about = Filter { subject: Some("order-1".into()), ..Filter::default() };
    assert_eq!(ids_of(&page(&about, 100, None).await), [ids[3], ids[1]]);
    let nothing = Filter { subject: Some("order-1\0".into()), ..Filter::default() };
    assert_eq!(page(&nothing, 100, None).await.jobs, []);
    for (state, count) in [(State::Waiting, 5), (State::Running, 0), (State::Failed, 0)] {
        let filter = Filter { state: Some(state), ..work.clone() };
        assert_eq!(page(&filter, 100, None).await.jobs.len(), count);
    }

    let job = jobs::find(&house.pool, ids[0]).await.unwrap().unwrap();
    let json = serde_json::to_value(&job).unwrap();
    assert_eq!((&json["payload"]["name"], &json["state"]), (&"".into(), &"waiting".into()));
    assert_eq!(serde_json::to_value(&job.record).unwrap().get("payload"), None);
    let asked: Filter = serde_json::from_str(r#"{"state": "failed"}"#).unwrap();
    assert_eq!(asked.state, Some(State::Failed));
}

/// Writes failed jobs of one unique key.
async fn failed_twins<const N: usize>(house: &House) -> [Uuid; N] {
    let mut ids = [Uuid::nil(); N];
    for id in &mut ids {
        *id = house.enqueue::<Work>(Meta::new().unique("one")).await;
        let failed = sqlx::query("update job set failed_at = now(), attempts = 4 where id = $1");
        failed.bind(*id).execute(&house.pool).await.unwrap();
    }
    ids
}

async fn restarted(house: &House, ids: &[Uuid]) -> Vec<Uuid> {
    let mut tx = house.pool.begin().await.unwrap();
    let new = Work { name: "second".into() };
    let restarted = jobs::restart(&mut tx, ids.iter().map(|id| (*id, &new))).await.unwrap();
    tx.commit().await.unwrap();
    restarted
}

#[tokio::test]
async fn a_failed_job_is_not_restarted_beside_its_twin_and_the_others_are() {
    let house = House::new().await;
    let [first, second] = failed_twins(&house).await;
    let other = house.enqueue::<Work>(Meta::new()).await;
    let mut both = restarted(&house, &[first, second, other]).await;
    both.sort_unstable();
    assert_eq!(both, [second, other], "the newer one of two");
    assert!(restarted(&house, &[first]).await.is_empty(), "the second one waits");
    assert_eq!(house.has(first, State::Failed).await.record.attempts, 4);
}

#[tokio::test]
async fn a_twin_that_is_enqueued_during_a_restart_keeps_the_failed_job_out() {
    let house = House::new().await;
    let failed: [Uuid; 1] = failed_twins(&house).await;
    let mut other = house.pool.begin().await.unwrap();
    let twin = Meta::new().unique("one");
    jobs::enqueue(&mut other, &Work::default(), twin).await.unwrap();
    let commit = async {
        house.until_waiting_for_a_lock().await;
        other.commit().await.unwrap();
    };
    let (restarted, ()) = tokio::join!(restarted(&house, &failed), commit);
    assert!(restarted.is_empty());
    house.has(failed[0], State::Failed).await;
}
