//! Tests of enqueueing.

use std::time::Duration;

use envelope::{Cause, CorrelationId};
use jobs::{EnqueueError, Enqueued, Meta, State};

use crate::house::{Brief, House, Work};

#[tokio::test]
async fn what_commits_is_run_and_what_rolls_back_never_is() {
    let house = House::new().await;
    let running = house.run(house.good::<Work>());
    let mut rolled_back = house.pool.begin().await.unwrap();
    jobs::enqueue(&mut rolled_back, &Work::default(), Meta::new()).await.unwrap();
    rolled_back.rollback().await.unwrap();
    let id = house.enqueue::<Work>(Meta::new()).await;
    house.done(id).await;
    running.end().await;
    let runs = house.seen.runs.lock().unwrap().clone();
    assert_eq!(runs.iter().map(|run| run.id).collect::<Vec<_>>(), [id]);
    assert_eq!(house.effects(id).await, [("done".to_owned(), 1)]);
}

#[tokio::test]
async fn it_carries_subject_and_flow() {
    let house = House::new().await;
    let running = house.run(house.good::<Work>());
    let cause = Cause::new(CorrelationId::new("flow-1").unwrap());
    let id = house.enqueue::<Work>(Meta::new().cause(&cause).subject("order-1")).await;
    house.done(id).await;
    let run = house.seen.runs.lock().unwrap()[0].clone();
    assert_eq!(run.correlation_id.as_deref(), Some("flow-1"));
    assert_eq!(run.subject.as_deref(), Some("order-1"));
    running.end().await;
}

#[tokio::test]
async fn at_most_one_of_a_unique_key_waits_or_runs() {
    let house = House::new().await;
    let id = house.enqueue::<Work>(Meta::new().unique("order-1")).await;
    let mut tx = house.pool.begin().await.unwrap();
    let jobs = [Work { name: "a".into() }, Work { name: "b".into() }, Work { name: "c".into() }];
    let keys = ["order-2", "order-1", "order-2"];
    let asked = jobs.iter().zip(keys.map(|key| Meta::new().unique(key)));
    let enqueued = jobs::enqueue_all(&mut tx, asked).await.unwrap();
    let other = jobs::enqueue(&mut tx, &Brief, Meta::new().unique("order-1")).await.unwrap();
    tx.commit().await.unwrap();
    assert!(matches!(enqueued[0], Enqueued::New(_)), "{enqueued:?}");
    assert_eq!(enqueued[1..], [Enqueued::Duplicate, Enqueued::Duplicate]);
    assert!(matches!(other, Enqueued::New(_)), "another kind has keys of its own");

    let running = house.run(house.good::<Work>());
    house.done(id).await;
    house.enqueue::<Work>(Meta::new().unique("order-1")).await;
    running.end().await;
}

#[tokio::test]
async fn it_can_be_put_off() {
    let house = House::new().await;
    let running = house.run(house.good::<Work>());
    let later = house.enqueue::<Work>(Meta::new().after(Duration::from_hours(1))).await;
    let now = house.enqueue::<Work>(Meta::new()).await;
    house.done(now).await;
    let job = house.has(later, State::Waiting).await.record;
    assert!(job.run_at - job.created_at > Duration::from_mins(59), "{job:?}");
    running.end().await;
    assert_eq!(house.seen.count(), 1);
}

#[tokio::test]
async fn what_is_too_large_is_refused_before_it_is_written() {
    let house = House::new().await;
    let mut tx = house.pool.begin().await.unwrap();
    let job = Work { name: "x".repeat(jobs::MAX_PAYLOAD_BYTES) };
    let refused = jobs::enqueue(&mut tx, &job, Meta::new()).await.unwrap_err();
    assert!(matches!(refused, EnqueueError::TooLarge { .. }), "{refused}");
}

#[tokio::test]
async fn a_payload_may_have_every_text_of_json() {
    let house = House::new().await;
    let mut tx = house.pool.begin().await.unwrap();
    let job = Work { name: "a\0b".into() };
    let enqueued = jobs::enqueue(&mut tx, &job, Meta::new()).await.unwrap();
    let Enqueued::New(id) = enqueued else { panic!("{enqueued:?}") };
    assert_eq!(jobs::restart(&mut tx, [(id, &job)]).await.unwrap(), [id]);
    let payload = sqlx::query_scalar::<_, String>("select payload::text from job");
    assert_eq!(payload.fetch_one(&mut *tx).await.unwrap(), r#"{"name":"a\u0000b"}"#);
}
