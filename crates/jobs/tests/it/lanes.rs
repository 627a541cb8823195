//! Tests of lanes: jobs of a target that does not answer do not delay those of others.

use std::time::{Duration, Instant};

use jobs::{EnqueueError, Meta, Options};

use crate::house::{Brief, House, Running, Work};

/// A kind with 32 places, of which each tenant has 8 and each lane 4.
const AT_ONCE: usize = 32;

/// Runs jobs that never end if they are about `dead`, and at once if not.
fn run(house: &House) -> Running {
    let script = house.script::<Work, _>(|context| async move {
        if context.subject.as_deref() == Some("dead") {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
        Ok(())
    });
    let worker = house.worker().handle(script.at_once::<AT_ONCE>());
    let drain = Duration::from_millis(50);
    crate::house::run(worker.options(Options { drain, ..house.options.clone() }))
}

fn dead(tenant: &str, lane: &str) -> Meta {
    Meta::new().tenant(tenant).lane(lane).subject("dead")
}

async fn enqueue(house: &House, metas: impl IntoIterator<Item = Meta>) {
    let work = Work::default();
    let mut tx = house.pool.begin().await.unwrap();
    jobs::enqueue_all(&mut tx, metas.into_iter().map(|meta| (&work, meta))).await.unwrap();
    tx.commit().await.unwrap();
    house.wake.wake();
}

/// Returns how many jobs run, by lane.
async fn running(house: &House) -> Vec<(String, i64)> {
    sqlx::query_as(
        "select lane, count(*) from job where worker is not null group by lane order by lane",
    )
    .fetch_all(&house.pool)
    .await
    .unwrap()
}

#[tokio::test]
async fn a_lane_has_its_share_and_a_tenant_not_more_than_a_quarter() {
    let house = House::new().await;
    enqueue(&house, (0..40).map(|_| dead("acme", "a"))).await;
    enqueue(&house, (0..40).map(|_| dead("globex", "g"))).await;
    let one = run(&house);
    house.seen.ran(8).await;
    assert_eq!(running(&house).await, [("a".to_owned(), 4), ("g".to_owned(), 4)]);

    // A tenant may have as many lanes as it likes, and jobs without a lane.
    for lane in ["b", "c", "d", ""] {
        enqueue(&house, (0..40).map(|_| dead("acme", lane))).await;
    }
    house.seen.ran(12).await;
    let healthy = Meta::new().tenant("initech").lane("i");
    let id = house.enqueue::<Work>(healthy).await;
    house.done(id).await;
    let held: i64 = running(&house).await.iter().map(|(_, count)| count).sum();
    assert_eq!(held, 8 + 4, "acme's quarter, and globex's lane");
    one.end().await;
}

#[tokio::test]
async fn every_lane_gets_its_turn_however_many_there_are() {
    const LANES: usize = 1_000;
    let house = House::new().await;
    // More than one claim looks at, each of its own tenant, all of them older.
    enqueue(
        &house,
        (0..LANES).map(|n| dead(&format!("t{n}"), "lane").after(Duration::from_hours(1))),
    )
    .await;
    enqueue(&house, (0..LANES).map(|n| Meta::new().tenant(format!("u{n}")).lane("lane"))).await;
    let one = run(&house);
    house.seen.ran(LANES).await;
    let id = house.enqueue::<Work>(Meta::new().tenant("zz").lane("lane")).await;
    house.done(id).await;
    one.end().await;
}

#[tokio::test]
async fn lanes_get_their_turn_after_a_backlog_of_jobs_without_one() {
    let mut house = House::new().await;
    house.options.poll = Duration::from_secs(20);
    enqueue(&house, (0..200).map(|_| Meta::new())).await;
    enqueue(&house, (0..200).map(|n| Meta::new().tenant(format!("t{n}")).lane("lane"))).await;
    let began = Instant::now();
    let one = run(&house);
    house.seen.ran(400).await;
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    one.end().await;
}

#[tokio::test]
async fn a_lane_is_worked_off_without_a_pause_when_its_places_become_free() {
    let mut house = House::new().await;
    house.options.poll = Duration::from_secs(20);
    enqueue(&house, (0..200).map(|_| Meta::new().tenant("acme").lane("a"))).await;
    let began = Instant::now();
    let one = run(&house);
    house.seen.ran(200).await;
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(house.seen.most_at_once(), 4);
    one.end().await;
}

#[tokio::test]
async fn a_backlog_of_one_dead_lane_costs_the_others_nothing() {
    let house = House::new().await;
    sqlx::query(
        "insert into job (id, kind, payload, tenant, lane, subject)
         select gen_random_uuid(), 'work', '{\"name\": \"\"}', 'acme', 'a', 'dead' from generate_series(1, 200000)",
    )
    .execute(&house.pool)
    .await
    .unwrap();
    let one = run(&house);
    house.seen.ran(4).await;
    let mut slowest = Duration::ZERO;
    for n in 0..20 {
        let began = Instant::now();
        let lane = ["0", "z"][n % 2];
        let id = house.enqueue::<Work>(Meta::new().tenant("globex").lane(lane)).await;
        house.done(id).await;
        let plain = house.enqueue::<Work>(Meta::new()).await;
        house.done(plain).await;
        slowest = slowest.max(began.elapsed());
    }
    eprintln!("beside 200,000 jobs of a dead lane, two jobs took at most {slowest:?}");
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    one.end().await;
}

#[tokio::test]
async fn an_instance_of_the_release_before_enqueues_and_claims_beside_this_one() {
    let house = House::new().await;
    sqlx::query("insert into job (id, kind, payload) values (gen_random_uuid(), 'brief', 'null')")
        .execute(&house.pool)
        .await
        .unwrap();
    enqueue(&house, [Meta::new().tenant("acme").lane("a")]).await;
    // As it claims.
    let claimed: Vec<String> = sqlx::query_scalar(
        "update job set attempts = attempts + 1, worker = gen_random_uuid(), run_at = now() + interval '1 minute'
         where id in (select id from job where kind = 'work' and failed_at is null and run_at <= now()
                      order by run_at limit 8 for update skip locked)
         returning kind",
    )
    .fetch_all(&house.pool)
    .await
    .unwrap();
    assert_eq!(claimed, ["work"]);
    let running = house.run(house.good::<Brief>());
    house.seen.ran(1).await;
    running.end().await;
}

#[tokio::test]
async fn the_name_of_a_lane_is_bounded() {
    let house = House::new().await;
    let mut tx = house.pool.begin().await.unwrap();
    let meta = Meta::new().lane("x".repeat(257));
    let refused = jobs::enqueue(&mut tx, &Brief, meta).await.unwrap_err();
    assert!(matches!(refused, EnqueueError::LaneTooLong { size: 257 }), "{refused}");
}
