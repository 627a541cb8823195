//! Tests of dead letters as rows, of replays and of rehearsals.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use consumer::{
    Failure, GroupStatus, Handler, LetterFilter, LetterStatus, LetterSummary, Letters,
    LettersError, NewReplay, Options, Received, Replay, ReplayDetails, Selection, State,
    Subscription,
};
use kafka::rdkafka::producer::FutureRecord;
use kafka::rdkafka::util::Timeout;
use kafka::{Coordinates, DeadLetter, Reason, dead_letter_topic};
use sandbox::testing::eventually;
use serde_json::json;
use serde_json::value::RawValue;
use sqlx::PgConnection;
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::events::{ParcelEvent, ParcelId, ParcelPacked, ParcelShipped};
use crate::house::{CUSTOMER, House, Note, PATIENCE, Running, create, io, note, troubled};

const GROUP: &str = "group";
const FINE: &str = "a@example.com";

impl House {
    /// Runs a consumer of [`GROUP`] whose handler fails permanently `times` times.
    fn run_troubled(&self, times: usize) -> Running {
        let handler = troubled::<ParcelPacked>(times, || Failure::permanent(io()));
        self.run(Subscription::new(GROUP).each_once(handler))
    }

    /// Waits until the group has `count` letters, and returns them in the order of their deaths.
    async fn letters_of(&self, count: usize) -> Vec<LetterSummary> {
        let filter = LetterFilter::default();
        let all = async || {
            let page =
                consumer::letters(&self.pool, Some(GROUP), &filter, 1_000, None).await.unwrap();
            (page.items.len() == count).then_some(page.items)
        };
        let mut letters = eventually(&format!("{count} letters"), PATIENCE, all).await;
        letters.reverse();
        letters
    }

    async fn letter(&self, id: Uuid) -> LetterSummary {
        consumer::letter(&self.pool, id).await.unwrap().summary
    }

    /// Waits until a replay has one of these states.
    async fn replay_is(&self, id: Uuid, statuses: &[&str]) -> ReplayDetails {
        let is = async || {
            let replay = consumer::replay(&self.pool, id).await.unwrap();
            statuses.contains(&&*replay.replay.status).then_some(replay)
        };
        eventually(&format!("the replay to be {statuses:?}"), PATIENCE, is).await
    }

    /// Requests a replay, and waits for its end.
    async fn replay(&self, letters: &Letters, new: NewReplay) -> ReplayDetails {
        let replay = letters.request(new).await.unwrap();
        self.replay_is(replay.id, &["done"]).await
    }

    /// Replays all dead letters.
    pub(crate) async fn replay_all(&self, running: &Running) {
        self.letters_of(1).await;
        self.replay(&running.letters, all()).await;
    }

    /// Waits until somebody waits for an advisory lock in this mode, or a letter is copied without
    /// having waited.
    async fn waits_for(&self, mode: &str) {
        let waits = async || {
            let waits = sqlx::query_scalar::<_, bool>(
                "select exists (select from dead_letter where copied_at is not null) or exists (
                     select from pg_locks where locktype = 'advisory' and mode = $1 and not granted
                         and database = (select oid from pg_database where datname = current_database()))",
            );
            waits.bind(mode).fetch_one(&self.pool).await.unwrap().then_some(())
        };
        eventually(&format!("somebody to wait for a {mode}"), PATIENCE, waits).await;
    }

    async fn count(&self, table: &str) -> i64 {
        let query = format!("select count(*) from {table}");
        sqlx::query_scalar(sqlx::AssertSqlSafe(query)).fetch_one(&self.pool).await.unwrap()
    }

    /// Sends parcels that all become dead letters, each with a different key.
    async fn send_dead(&self, count: usize) -> Vec<LetterSummary> {
        for _ in 0..count {
            self.send::<ParcelPacked>(ParcelId::new(), 1, CUSTOMER).await;
        }
        self.letters_of(count).await
    }
}

fn new(selection: Selection) -> NewReplay {
    NewReplay {
        selection,
        rehearse: false,
        rate: None,
        ramp: false,
        stop_after: None,
        force: false,
        by: "ada".to_owned(),
        why: Some("repaired".to_owned()),
    }
}

fn all() -> NewReplay {
    new(Selection::Filter(LetterFilter::default()))
}

fn one(letter: &LetterSummary) -> NewReplay {
    new(Selection::Ids(vec![letter.id]))
}

fn outcomes(replay: &Replay) -> [i64; 5] {
    let it = replay.outcomes;
    [it.processed, it.duplicate, it.superseded, it.failed, it.held]
}

fn raw(data: &serde_json::Value) -> Box<RawValue> {
    RawValue::from_string(data.to_string()).unwrap()
}

/// Returns the reason of a refusal.
fn refused<T: std::fmt::Debug>(result: Result<T, LettersError>) -> String {
    match result.unwrap_err() {
        LettersError::Database(error) => panic!("{error}"),
        refused => refused.to_string(),
    }
}

#[tokio::test]
async fn a_letter_keeps_every_attempt_and_is_copied_to_its_topic() {
    let house = House::new().await;
    let handler = troubled::<ParcelPacked>(9, || Failure::transient(io()));
    let running = house.run(Subscription::new(GROUP).each_once(handler));
    let parcel = ParcelId::new();
    let event = house.event::<ParcelPacked>(parcel, 1, CUSTOMER);
    house.publish("parcel.packed", &event).await;
    let [summary] = &*house.letters_of(1).await else { unreachable!() };
    assert_eq!(summary.event_id.as_deref(), Some(event.envelope.id.as_str()));
    assert_eq!(summary.subject, Some(parcel.to_string()));
    assert_eq!(summary.tenant.as_deref(), Some("acme"));
    assert_eq!((&*summary.status, &*summary.reason), ("dead", "made for the test"));
    let letter = consumer::letter(&house.pool, summary.id).await.unwrap();
    assert_eq!(letter.attempts.as_array().unwrap().len(), 4, "{}", letter.attempts);
    assert_eq!(letter.value.unwrap().0, event.data);

    let copy = house.first("group.dlq").await;
    let letter = DeadLetter::read(&copy).unwrap();
    assert_eq!((letter.origin.offset, copy.value), (summary.offset, Some(event.data)));
    let id = summary.id.to_string();
    assert_eq!(copy.headers.last(kafka::LETTER_ID), Some(id.as_bytes()));
    assert_eq!(house.count("attempt").await, 0, "the row says it");
    running.end().await;
}

#[tokio::test]
async fn letters_that_die_at_once_are_copied_in_the_order_of_their_rows() {
    let house = House::new().await;
    let first = ParcelId::new();
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!(
        "create function hold() returns trigger language plpgsql as
             'begin perform pg_advisory_xact_lock_shared(1); return new; end';
         create trigger hold before insert on dead_letter
             for each row when (new.subject = '{first}') execute function hold()",
    )))
    .execute(&house.pool)
    .await
    .unwrap();
    let mut holding = house.pool.begin().await.unwrap();
    sqlx::query("select pg_advisory_xact_lock(1)").execute(&mut *holding).await.unwrap();
    let running = house.run_troubled(usize::MAX);
    house.send::<ParcelPacked>(first, 1, CUSTOMER).await;
    // It has its number by then.
    house.waits_for("ShareLock").await;
    for _ in 0..9 {
        house.send::<ParcelPacked>(ParcelId::new(), 1, CUSTOMER).await;
    }
    house.waits_for("ExclusiveLock").await;
    holding.rollback().await.unwrap();

    let copies = house.read("group.dlq", 10).await;
    let copies = copies.into_iter().map(|it| it.key.unwrap());
    let rows: Vec<Vec<u8>> = sqlx::query_scalar("select key from dead_letter order by seq")
        .fetch_all(&house.pool)
        .await
        .unwrap();
    assert_eq!(copies.collect::<Vec<_>>(), rows);
    running.end().await;
}

#[tokio::test]
async fn a_replay_ends_in_the_effect_or_in_another_failure_and_says_so() {
    let house = House::new().await;
    let running = house.run_troubled(2);
    let [letter] = &*house.send_dead(1).await else { unreachable!() };

    let failed = house.replay(&running.letters, one(letter)).await;
    assert_eq!(outcomes(&failed.replay), [0, 0, 0, 1, 0]);
    assert_eq!((&*failed.failures[0].reason, failed.failures[0].letters), ("made for the test", 1));
    let replayed = house.letter(letter.id).await;
    assert_eq!(
        (&*replayed.status, replayed.outcome.as_deref(), replayed.replays),
        ("dead", Some("failed"), 1)
    );

    let replay = house.replay(&running.letters, one(letter)).await.replay;
    assert_eq!((outcomes(&replay), &*replay.by, replay.selected), ([1, 0, 0, 0, 0], "ada", 1));
    let resolved = house.letter(letter.id).await;
    assert_eq!((&*resolved.status, resolved.outcome.as_deref()), ("resolved", Some("processed")));
    assert!(resolved.closed_at.is_some());
    assert_eq!(house.count("effect").await, 1);
    assert!(refused(running.letters.request(one(letter)).await).contains("is resolved"));
    assert!(refused(running.letters.request(all()).await).contains("nothing to replay"));
    running.end().await;
}

#[tokio::test]
async fn what_was_processed_by_another_way_meanwhile_is_a_duplicate() {
    let house = House::new().await;
    let running = house.run_troubled(1);
    let event = house.event::<ParcelPacked>(ParcelId::new(), 1, CUSTOMER);
    house.publish("parcel.packed", &event).await;
    house.letters_of(1).await;
    house.publish("parcel.packed", &event).await;
    let effect = async || (house.count("effect").await == 1).then_some(());
    eventually("the effect", PATIENCE, effect).await;
    let replay = house.replay(&running.letters, all()).await.replay;
    assert_eq!(outcomes(&replay), [0, 1, 0, 0, 0]);
    assert_eq!(house.count("effect").await, 1);
    running.end().await;
}

#[tokio::test]
async fn what_was_replayed_in_vain_too_often_is_parked_until_it_is_forced() {
    let house = House::new().await;
    let running = house.run_troubled(6);
    let [letter] = &*house.send_dead(1).await else { unreachable!() };
    for _ in 0..5 {
        house.replay(&running.letters, one(letter)).await;
    }
    assert_eq!(house.letter(letter.id).await.status, "parked");
    assert!(refused(running.letters.request(one(letter)).await).contains("parked"));
    let rehearsal = running.letters.request(NewReplay { rehearse: true, ..all() }).await;
    assert!(refused(rehearsal).contains("force"), "a replay would not have it either");
    let forced = house.replay(&running.letters, NewReplay { force: true, ..one(letter) }).await;
    assert_eq!(outcomes(&forced.replay), [1, 0, 0, 0, 0]);
    running.end().await;
}

#[tokio::test]
async fn a_rehearsal_says_what_would_happen_and_leaves_nothing() {
    let house = House::new().await;
    let subscription = Subscription::new(GROUP)
        .each_once(troubled::<ParcelPacked>(2, || Failure::permanent(io())))
        .latest_wins(troubled::<ParcelShipped>(1, || Failure::permanent(io())));
    let running = house.run(subscription);
    house.send_dead(2).await;
    // Of one key: the older one is superseded once the newer one was applied.
    let shipped = ParcelId::new();
    house.send::<ParcelShipped>(shipped, 1, CUSTOMER).await;
    house.letters_of(3).await;
    house.send::<ParcelShipped>(shipped, 2, FINE).await;
    house.has(shipped, &[2]).await;
    let settled = house.counter("consumer_settled_total", "");
    let before = [house.count("effect").await, house.count("inbox").await];

    let rehearsal = house.replay(&running.letters, NewReplay { rehearse: true, ..all() }).await;
    assert_eq!(outcomes(&rehearsal.replay), [2, 0, 1, 0, 0]);
    assert!(rehearsal.replay.rehearsal);
    assert_eq!([house.count("effect").await, house.count("inbox").await], before);
    assert_eq!(house.counter("consumer_settled_total", ""), settled);
    for letter in house.letters_of(3).await {
        assert_eq!((&*letter.status, letter.outcome, letter.replays), ("dead", None, 0));
    }
    let replay = house.replay(&running.letters, all()).await.replay;
    assert_eq!(outcomes(&replay), [2, 0, 1, 0, 0], "it came as was said");
    running.end().await;
}

#[tokio::test]
async fn a_rehearsal_that_fails_leaves_the_letters_as_they_were() {
    let house = House::new().await;
    let commits = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&commits);
    let handler = troubled::<ParcelPacked>(usize::MAX, || Failure::permanent(io()));
    let running = house.run_as(Subscription::new(GROUP).each_once(handler), |consumer| {
        consumer.on_commit(move || _ = counted.fetch_add(1, Ordering::SeqCst))
    });
    house.send_dead(2).await;
    let copied = async || {
        let left = house.count("dead_letter where copied_at is null").await;
        (left == 0).then_some(())
    };
    eventually("both to be copied", PATIENCE, copied).await;
    let state = "select (select jsonb_agg(to_jsonb(it) order by it.seq)::text from dead_letter it)
                     || (select count(*) from attempt) || (select count(*) from inbox)";
    let state = async || sqlx::query_scalar::<_, String>(state).fetch_one(&house.pool).await;
    let counters = || {
        ["settled", "retries", "dead_lettered"]
            .map(|it| house.counter(&format!("consumer_{it}_total"), ""))
    };
    let before = (state().await.unwrap(), counters(), commits.load(Ordering::SeqCst));

    for letters in [all(), one(&house.letters_of(2).await[0])] {
        let rehearsal = NewReplay { rehearse: true, ..letters };
        let rehearsed = house.replay(&running.letters, rehearsal).await.replay;
        assert_eq!(rehearsed.outcomes.failed, rehearsed.selected);
        let after = (state().await.unwrap(), counters(), commits.load(Ordering::SeqCst));
        assert_eq!(after, before);
    }
    running.end().await;
}

#[tokio::test]
async fn many_ignored_letters_of_one_key_are_rehearsed() {
    let house = House::new().await;
    let running = house.run_troubled(0);
    let mut lost = house.event::<ParcelPacked>(ParcelId::new(), 1, FINE);
    lost.envelope.event_type = "parcel.lost".into();
    house.publish("parcel.packed", &lost).await;
    house.letters_of(1).await;
    running.end().await;
    sqlx::query(
        r#"insert into dead_letter (id, subscription, topic, partition, "offset", "timestamp", key, value, header_names,
               header_values, exception, reason, causes, fingerprint, copied_at)
           select gen_random_uuid(), subscription, topic, partition, "offset" + n, "timestamp", key, value, header_names,
               header_values, exception, reason, causes, fingerprint, clock_timestamp()
           from dead_letter, generate_series(1, 999) n"#,
    )
    .execute(&house.pool)
    .await
    .unwrap();
    let subscription = Subscription::new(GROUP).each_once(note::<ParcelPacked>()).ignore_unknown();
    let running = house.run(subscription);
    let rehearsal = house.replay(&running.letters, NewReplay { rehearse: true, ..all() }).await;
    assert_eq!(rehearsal.replay.outcomes.ignored, 1_000);
    running.end().await;
}

/// Writes a row whose reference is checked at the commit only.
struct Deferred;

impl Handler for Deferred {
    type Event = ParcelPacked;

    async fn handle(
        &self,
        tx: &mut PgConnection,
        events: &[Received<ParcelPacked>],
    ) -> Result<(), Failure> {
        for event in events {
            let insert = sqlx::query("insert into child (parent) values ($1)");
            insert.bind(event.data.parcel().number.clone()).execute(&mut *tx).await?;
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_rehearsal_checks_what_a_commit_would() {
    let house = House::new().await;
    for statement in [
        "create table parent (id text primary key)",
        "create table child (parent text references parent deferrable initially deferred)",
    ] {
        sqlx::query(statement).execute(&house.pool).await.unwrap();
    }
    let running = house.run(Subscription::new(GROUP).each_once(Deferred));
    let (known, unknown) = (ParcelId::new(), ParcelId::new());
    for parcel in [known, unknown] {
        house.send::<ParcelPacked>(parcel, 1, FINE).await;
    }
    house.letters_of(2).await;
    let insert = sqlx::query("insert into parent values ($1)");
    insert.bind(known.to_string()).execute(&house.pool).await.unwrap();
    let rehearsal = house.replay(&running.letters, NewReplay { rehearse: true, ..all() }).await;
    assert_eq!(outcomes(&rehearsal.replay), [1, 0, 0, 1, 0]);
    assert!(rehearsal.failures[0].reason.contains("foreign key"), "{:?}", rehearsal.failures);
    running.end().await;
}

#[tokio::test]
async fn a_letter_that_fails_again_holds_those_of_its_key() {
    let house = House::new().await;
    // Each of three dies, then the first fails once more.
    let running = house.run_troubled(4);
    let parcel = ParcelId::new();
    for version in 1..=3 {
        house.send::<ParcelPacked>(parcel, version, CUSTOMER).await;
    }
    let letters = house.letters_of(3).await;
    let rehearsal = NewReplay { rehearse: true, ..all() };
    running.faults.set(Some(consumer::Fault::new(consumer::FaultKind::Permanent)));
    let rehearsed = house.replay(&running.letters, rehearsal).await.replay;
    assert_eq!(outcomes(&rehearsed), [0, 0, 0, 1, 2]);
    running.faults.set(None);
    let replay = house.replay(&running.letters, all()).await.replay;
    assert_eq!(outcomes(&replay), [0, 0, 0, 1, 2]);
    for letter in &letters {
        assert_eq!(house.letter(letter.id).await.status, "dead");
    }
    let replay = house.replay(&running.letters, all()).await.replay;
    assert_eq!(outcomes(&replay), [3, 0, 0, 0, 0]);
    house.has(parcel, &[1, 2, 3]).await;
    running.end().await;
}

#[tokio::test]
async fn a_replay_goes_at_its_rate_and_can_be_paused_resumed_and_cancelled() {
    let house = House::new().await;
    let running = house.run_troubled(30);
    house.send_dead(30).await;
    let slow = running.letters.request(NewReplay { rate: Some(2.0), ..all() }).await.unwrap();
    house.replay_is(slow.id, &["running"]).await;
    let paused = consumer::pause_replay(&house.pool, slow.id, "grace").await.unwrap();
    assert_eq!((&*paused.status, paused.note.as_deref()), ("paused", Some("paused by grace")));
    assert!(
        refused(consumer::pause_replay(&house.pool, slow.id, "grace").await).contains("paused")
    );
    assert!(refused(running.letters.request(all()).await).contains("nothing to replay"));
    let resumed = consumer::resume_replay(&house.pool, slow.id).await.unwrap();
    assert_eq!(resumed.status, "queued");
    let some = async || {
        let replay = consumer::replay(&house.pool, slow.id).await.unwrap().replay;
        (replay.outcomes.processed >= 2).then_some(())
    };
    eventually("some to be processed", PATIENCE, some).await;
    let cancelled = consumer::cancel_replay(&house.pool, slow.id, "grace").await.unwrap();
    let done = cancelled.outcomes.processed;
    assert!((2..30).contains(&done), "{done}");
    let filter = LetterFilter { status: Some(LetterStatus::Dead), ..LetterFilter::default() };
    let left = consumer::letters(&house.pool, Some(GROUP), &filter, 1_000, None).await.unwrap();
    assert_eq!(i64::try_from(left.items.len()).unwrap(), 30 - done);

    let began = Instant::now();
    let replay = house.replay(&running.letters, NewReplay { rate: Some(20.0), ..all() }).await;
    assert_eq!(replay.replay.outcomes.processed, 30 - done);
    let at_least = Duration::from_millis(u64::try_from(30 - done - 5).unwrap() * 50);
    assert!(began.elapsed() >= at_least, "{:?}", began.elapsed());
    assert_eq!(house.count("effect").await, 30);
    running.end().await;
}

#[tokio::test]
async fn a_ramp_and_a_limit_of_failures_pause_a_replay() {
    let house = House::new().await;
    let running = house.run_troubled(usize::MAX);
    house.send_dead(12).await;
    let ramped = running.letters.request(NewReplay { ramp: true, ..all() }).await.unwrap();
    let paused = house.replay_is(ramped.id, &["paused"]).await.replay;
    assert_eq!(paused.note.as_deref(), Some("1 of a step of 1 failed"));
    assert_eq!(outcomes(&paused), [0, 0, 0, 1, 0]);
    consumer::cancel_replay(&house.pool, ramped.id, "ada").await.unwrap();
    let limited =
        running.letters.request(NewReplay { stop_after: Some(3), ..all() }).await.unwrap();
    let paused = house.replay_is(limited.id, &["paused"]).await.replay;
    assert_eq!(
        (outcomes(&paused), paused.note.as_deref()),
        ([0, 0, 0, 3, 0], Some("3 failed again"))
    );
    running.end().await;
}

#[tokio::test]
async fn an_ended_replay_keeps_its_outcomes_when_its_letters_are_pruned() {
    let house = House::new().await;
    let running = house.run_troubled(usize::MAX);
    house.send_dead(2).await;
    let done = house.replay(&running.letters, all()).await.replay;
    let cancelled = NewReplay { stop_after: Some(1), ..all() };
    let cancelled = running.letters.request(cancelled).await.unwrap();
    house.replay_is(cancelled.id, &["paused"]).await;
    let cancelled = consumer::cancel_replay(&house.pool, cancelled.id, "ada").await.unwrap();
    assert_eq!((outcomes(&done), outcomes(&cancelled)), ([0, 0, 0, 2, 0], [0, 0, 0, 1, 0]));
    sqlx::query("delete from dead_letter").execute(&house.pool).await.unwrap();
    assert_eq!(house.count("dead_letter_replay_item").await, 0);
    let listed = consumer::replays(&house.pool, Some(GROUP), 9, None).await.unwrap();
    assert_eq!(listed.items, [cancelled, done]);
    running.end().await;
}

#[tokio::test]
async fn a_replay_that_is_cancelled_releases_no_letter_of_the_next_one() {
    let house = House::new().await;
    let running = house.run_troubled(usize::MAX);
    house.send_dead(2).await;
    let first = NewReplay { stop_after: Some(1), ..all() };
    let first = running.letters.request(first).await.unwrap();
    house.replay_is(first.id, &["paused"]).await;
    let of_status = |letters: &[LetterSummary], status| {
        letters.iter().find(|it| it.status == status).map(|it| it.id).unwrap()
    };
    let letters = house.letters_of(2).await;
    let failed = of_status(&letters, "dead");
    let waiting = of_status(&letters, "replaying");

    // Nothing runs until both replays have been requested and the first is cancelled.
    let requests = running.letters.clone();
    running.end().await;
    let second = requests.request(new(Selection::Ids(vec![failed]))).await.unwrap();
    consumer::cancel_replay(&house.pool, first.id, "ada").await.unwrap();
    assert_eq!(house.letter(waiting).await.status, "dead");
    assert_eq!(house.letter(failed).await.status, "replaying");

    let repaired = house.run_troubled(0);
    let second = house.replay_is(second.id, &["done"]).await.replay;
    assert_eq!(outcomes(&second), [1, 0, 0, 0, 0]);
    assert_eq!(house.letter(failed).await.status, "resolved");
    repaired.end().await;
}

/// Makes a replay look as if the instance that ran it had been killed.
async fn kill_replayer(house: &House, replay: Uuid, alone: bool) {
    for statement in [
        "update dead_letter_replay set status = 'running', leased_by = 'gone', leased_until = clock_timestamp() - interval '1 s',
             fence = fence + 1 where id = $1",
        if alone {
            "update dead_letter_replay_item set begun = true, alone = true where replay = $1"
        } else {
            "update dead_letter_replay_item set begun = true where replay = $1"
        },
    ] {
        sqlx::query(statement).bind(replay).execute(&house.pool).await.unwrap();
    }
}

#[tokio::test]
async fn a_replay_goes_on_after_a_kill_and_blames_only_a_letter_that_was_alone() {
    let house = House::new().await;
    let running = house.run_troubled(3);
    let letters = house.send_dead(3).await;
    let handle = running.letters.clone();
    running.end().await;
    for (letter, alone) in [(&letters[0], false), (&letters[1], true)] {
        let replay = handle.request(one(letter)).await.unwrap();
        kill_replayer(&house, replay.id, alone).await;
        let running = house.run_troubled(0);
        let replay = house.replay_is(replay.id, &["done"]).await;
        let (expected, reason) =
            if alone { ([0, 0, 0, 1, 0], "process ended") } else { ([1, 0, 0, 0, 0], "") };
        assert_eq!(outcomes(&replay.replay), expected);
        assert!(
            replay.failures.iter().all(|it| it.reason.contains(reason)),
            "{:?}",
            replay.failures
        );
        running.end().await;
    }
}

/// Waits for a permit before each letter, and then fails if it is to.
#[derive(Clone)]
struct Gated {
    /// Receives a permit for each attempt that begins.
    begun: Arc<Semaphore>,
    open: Arc<Semaphore>,
    fails: bool,
}

impl Gated {
    fn new(open: usize, fails: bool) -> Self {
        Self { begun: Arc::new(Semaphore::new(0)), open: Arc::new(Semaphore::new(open)), fails }
    }

    async fn await_attempt(&self) {
        tokio::time::timeout(PATIENCE, self.begun.acquire()).await.unwrap().unwrap().forget();
    }
}

impl Handler for Gated {
    type Event = ParcelPacked;

    async fn handle(
        &self,
        _: &mut PgConnection,
        _: &[Received<ParcelPacked>],
    ) -> Result<(), Failure> {
        self.begun.add_permits(1);
        self.open.acquire().await.map_err(Failure::permanent)?.forget();
        if self.fails { Err(Failure::permanent(io())) } else { Ok(()) }
    }
}

#[tokio::test]
async fn an_instance_whose_replay_was_taken_over_writes_nothing_more() {
    let house = House::new().await;
    let troubled = house.run_troubled(2);
    let letters = house.send_dead(2).await;
    let handle = troubled.letters.clone();
    troubled.end().await;
    let patient = || Options { handler_timeout: PATIENCE, ..House::options() };
    let run = |gated: &Gated| {
        house.run_with(patient(), Subscription::new(GROUP).each_once(gated.clone()))
    };
    let frozen = Gated::new(0, true);
    let first = run(&frozen);
    // One letter at a time.
    let replay = handle.request(NewReplay { ramp: true, ..all() }).await.unwrap();
    frozen.await_attempt().await;
    // What Postgres does to a session that is idle in a transaction for too long.
    let ended = "select pg_terminate_backend(pid) from pg_stat_activity
                 where datname = current_database() and state = 'idle in transaction'";
    sqlx::query(ended).execute(&house.pool).await.unwrap();

    let second = Gated::new(1, false);
    let taker = run(&second);
    let second_begun = async || {
        let expired =
            "update dead_letter_replay set leased_until = clock_timestamp() - interval '1 s'
                       where id = $1 and leased_until > clock_timestamp()";
        sqlx::query(expired).bind(replay.id).execute(&house.pool).await.unwrap();
        (second.begun.available_permits() == 2).then_some(())
    };
    eventually("the second letter to be attempted by the other instance", PATIENCE, second_begun)
        .await;
    assert_eq!(house.letter(letters[0].id).await.status, "resolved");

    frozen.open.add_permits(2);
    first.end().await;
    let resolved = house.letter(letters[0].id).await;
    assert_eq!((&*resolved.status, resolved.replays), ("resolved", 0));
    second.open.add_permits(1);
    let done = house.replay_is(replay.id, &["done"]).await.replay;
    assert_eq!(outcomes(&done), [2, 0, 0, 0, 0]);
    taker.end().await;
}

#[tokio::test]
async fn a_replay_that_was_interrupted_by_a_shutdown_goes_on_and_applies_nothing_twice() {
    let house = House::new().await;
    let running = house.run_troubled(40);
    house.send_dead(40).await;
    let replay = running.letters.request(NewReplay { rate: Some(40.0), ..all() }).await.unwrap();
    let some = async || {
        let replay = consumer::replay(&house.pool, replay.id).await.unwrap().replay;
        (replay.outcomes.processed >= 5).then_some(())
    };
    eventually("some to be processed", PATIENCE, some).await;
    running.end().await;
    let left = consumer::replay(&house.pool, replay.id).await.unwrap().replay;
    assert_eq!(left.status, "queued");
    let running = house.run_troubled(0);
    let done = house.replay_is(replay.id, &["done"]).await.replay;
    assert_eq!(outcomes(&done), [40, 0, 0, 0, 0]);
    assert_eq!(house.count("effect").await, 40);
    running.end().await;
}

#[tokio::test]
async fn a_shutdown_in_the_last_batch_leaves_no_letter_behind() {
    let house = House::new().await;
    let running = house.run_troubled(0);
    running.faults.set(Some(consumer::Fault::new(consumer::FaultKind::Permanent)));
    house.send_dead(30).await;
    // Each by itself, and slow enough that a shutdown comes in between.
    let mut slow = consumer::Fault::new(consumer::FaultKind::Slow);
    slow.delay_ms = 100;
    running.faults.set(Some(slow));
    let replay = running.letters.request(all()).await.unwrap();
    let some = async || {
        let replay = consumer::replay(&house.pool, replay.id).await.unwrap().replay;
        (replay.outcomes.processed >= 3).then_some(())
    };
    eventually("some to be processed", PATIENCE, some).await;
    running.end().await;
    assert_eq!(consumer::replay(&house.pool, replay.id).await.unwrap().replay.status, "queued");
    let begun: i64 = sqlx::query_scalar(
        "select count(*) from dead_letter_replay_item where begun and outcome is null",
    )
    .fetch_one(&house.pool)
    .await
    .unwrap();
    assert_eq!(begun, 0, "nobody is suspected");
    let running = house.run_troubled(0);
    let done = house.replay_is(replay.id, &["done"]).await.replay;
    assert_eq!(outcomes(&done), [30, 0, 0, 0, 0]);
    running.end().await;
}

#[tokio::test]
async fn after_a_kill_the_later_letters_of_a_key_wait_for_the_earlier_ones() {
    let house = House::new().await;
    // Each of two dies, then the first fails once more.
    let running = house.run_troubled(2);
    let parcel = ParcelId::new();
    for version in 1..=2 {
        house.send::<ParcelPacked>(parcel, version, CUSTOMER).await;
    }
    house.letters_of(2).await;
    let handle = running.letters.clone();
    running.end().await;
    let replay = handle.request(all()).await.unwrap();
    kill_replayer(&house, replay.id, false).await;
    let running = house.run_troubled(1);
    let done = house.replay_is(replay.id, &["done"]).await.replay;
    assert_eq!(outcomes(&done), [0, 0, 0, 1, 1]);
    assert!(house.effects(parcel).await.is_empty());
    running.end().await;
}

#[tokio::test]
async fn what_expires_while_a_replay_waits_is_held() {
    let house = House::new().await;
    let running = house.run_troubled(2);
    house.send_dead(2).await;
    let replay = running.letters.request(NewReplay { rate: Some(0.5), ..all() }).await.unwrap();
    consumer::pause_replay(&house.pool, replay.id, "ada").await.unwrap();
    let left = consumer::replay(&house.pool, replay.id).await.unwrap().replay;
    let left = 2 - left.outcomes.processed;
    sqlx::query("update dead_letter set expires_at = clock_timestamp()")
        .execute(&house.pool)
        .await
        .unwrap();
    consumer::resume_replay(&house.pool, replay.id).await.unwrap();
    let done = house.replay_is(replay.id, &["done"]).await.replay;
    assert_eq!(done.outcomes.held, left);
    running.end().await;
}

#[tokio::test]
async fn what_expires_while_a_replay_runs_is_held() {
    let house = House::new().await;
    let running = house.run_troubled(3);
    house.send_dead(3).await;
    sqlx::query("update dead_letter set expires_at = clock_timestamp() + interval '1500 ms'")
        .execute(&house.pool)
        .await
        .unwrap();
    let slow = NewReplay { rate: Some(1.0), ..all() };
    let done = house.replay(&running.letters, slow).await.replay;
    let [processed, .., held] = outcomes(&done);
    assert!(held >= 1, "the third is due half a second after it has expired");
    assert_eq!(processed + held, 3);
    running.end().await;
}

#[tokio::test]
async fn what_is_unavailable_pauses_a_replay_and_blames_no_letter() {
    let house = House::new().await;
    let handler = troubled::<ParcelPacked>(usize::MAX, || Failure::unavailable(io()));
    let running = house.run_troubled(1);
    let [letter] = &*house.send_dead(1).await else { unreachable!() };
    running.end().await;
    let running = house.run(Subscription::new(GROUP).each_once(handler));
    let replay = running.letters.request(one(letter)).await.unwrap();
    let paused = house.replay_is(replay.id, &["paused"]).await.replay;
    assert!(paused.note.unwrap().contains("made for the test"));
    assert_eq!(house.letter(letter.id).await.replays, 0);
    running.end().await;
}

#[tokio::test]
async fn several_instances_run_one_replay_at_a_time() {
    let house = House::new().await;
    let (one, other) = (house.run_troubled(0), house.run_troubled(0));
    for running in [&one, &other] {
        running.faults.set(Some(consumer::Fault::new(consumer::FaultKind::Permanent)));
    }
    house.send_dead(20).await;
    for running in [&one, &other] {
        running.faults.set(None);
    }
    let half =
        |letters: &[LetterSummary]| new(Selection::Ids(letters.iter().map(|it| it.id).collect()));
    let letters = house.letters_of(20).await;
    let first = NewReplay { rate: Some(10.0), ..half(&letters[..10]) };
    let first = one.letters.request(first).await.unwrap();
    let second = other.letters.request(half(&letters[10..])).await.unwrap();
    house.replay_is(second.id, &["running", "done"]).await;
    let first = consumer::replay(&house.pool, first.id).await.unwrap().replay;
    assert_eq!(first.status, "done", "the other one waited for it");
    house.replay_is(second.id, &["done"]).await;
    assert_eq!(house.count("effect").await, 20);
    one.end().await;
    other.end().await;
}

#[tokio::test]
async fn a_letter_that_is_too_large_for_its_topic_stops_nothing_and_is_copied_as_a_stub() {
    let house = House::new().await;
    create(&house.settings, dead_letter_topic(GROUP).max_record_bytes(1_500)).await;
    let running = house.run_troubled(1);
    let event = house.event::<ParcelPacked>(ParcelId::new(), 1, CUSTOMER);
    let mut large = event.clone();
    let noise: String = (0..4_000).map(|_| fastrand::alphanumeric()).collect();
    let mut data: serde_json::Value = serde_json::from_slice(&large.data).unwrap();
    data["noise"] = noise.into();
    large.data = data.to_string().into_bytes();
    house.publish("parcel.packed", &large).await;
    house.processes_one().await;
    assert!(!matches!(running.status.state(), State::Halted(_)));
    let [letter] = &*house.letters_of(1).await else { unreachable!() };
    let kept = consumer::letter(&house.pool, letter.id).await.unwrap();
    assert_eq!(kept.value.unwrap().0, large.data, "it is whole");
    let stub = house.first("group.dlq").await;
    assert_eq!((stub.key.as_ref(), stub.value.as_ref()), (None, None));
    assert_eq!(DeadLetter::read(&stub).unwrap().origin.offset, letter.offset);
    running.end().await;
}

#[tokio::test]
async fn letters_of_an_earlier_release_are_imported_from_their_topic() {
    let house = House::new().await;
    create(&house.settings, dead_letter_topic(GROUP)).await;
    let topic = house.settings.prefixed("group.dlq");
    let (open, replayed) = (ParcelId::new(), ParcelId::new());
    for (offset, parcel) in [(7, open), (8, replayed), (7, open)] {
        let event = house.event::<ParcelPacked>(parcel, 1, FINE);
        let origin = Coordinates {
            topic: house.settings.prefixed("parcel.packed"),
            partition: 0,
            offset,
            timestamp: 1_000,
        };
        let reason = Reason {
            exception: "Broken".into(),
            message: "it broke".into(),
            stacktrace: "it broke".into(),
        };
        let letter = DeadLetter { origin, group: house.settings.prefixed(GROUP), reason };
        let record = kafka::Record {
            topic: topic.clone(),
            partition: 0,
            offset: 0,
            timestamp: None,
            key: Some(parcel.to_string().into_bytes()),
            value: Some(event.data.clone()),
            headers: kafka::content_headers(&event.envelope),
        };
        let headers = kafka::client_headers(&letter.headers(&record));
        let sent = FutureRecord::to(&topic)
            .key(record.key.as_ref().unwrap())
            .payload(&event.data)
            .headers(headers);
        house.producer.send(sent, Timeout::Never).await.unwrap();
    }
    sqlx::query(
        r#"insert into replay (id, subscription, topic, partition, "offset", "timestamp", outcome)
           values ('r', $1, $2, 0, 8, 1000, 'processed')"#,
    )
    .bind(GROUP)
    .bind(house.settings.prefixed("parcel.packed"))
    .execute(&house.pool)
    .await
    .unwrap();
    let running = house.run_troubled(0);
    let letters = house.letters_of(2).await;
    let of = |parcel: ParcelId| {
        letters.iter().find(|it| it.subject == Some(parcel.to_string())).unwrap()
    };
    assert_eq!((&*of(open).status, &*of(open).reason), ("dead", "it broke"));
    assert_eq!(of(replayed).status, "resolved");
    let replay = house.replay(&running.letters, all()).await.replay;
    assert_eq!(outcomes(&replay), [1, 0, 0, 0, 0]);
    house.has(open, &[1]).await;
    running.end().await;
}

#[tokio::test]
async fn a_copy_is_not_imported_once_its_row_was_pruned() {
    let house = House::new().await;
    let running = house.run_troubled(1);
    house.send_dead(1).await;
    house.first("group.dlq").await;
    running.end().await;
    sqlx::query("delete from dead_letter").execute(&house.pool).await.unwrap();
    let running = house.run_troubled(1);
    let imported = async || (house.count("dead_letter_import").await == 1).then_some(());
    eventually("the topic to be looked through", PATIENCE, imported).await;
    assert_eq!(house.count("dead_letter").await, 0);
    running.end().await;
}

#[tokio::test]
async fn a_discarded_letter_stays_as_long_as_its_message_can_come_again() {
    let house = House::new().await;
    let running = house.run_troubled(3);
    let letters = house.send_dead(3).await;
    let discarded = Selection::Ids(vec![letters[0].id, letters[1].id]);
    consumer::discard_letters(&house.pool, GROUP, &discarded).await.unwrap();
    running.end().await;
    let close = "update dead_letter set status = coalesce($2, status),
                     closed_at = clock_timestamp() - make_interval(days => $3) where id = $1";
    for (letter, status, days) in [(0, None, 46), (1, None, 44), (2, Some("resolved"), 31)] {
        let close = sqlx::query(close).bind(letters[letter].id).bind(status).bind(days);
        close.execute(&house.pool).await.unwrap();
    }
    let running = house.run_troubled(1);
    let left = house.letters_of(1).await;
    assert_eq!(left[0].id, letters[1].id);
    running.end().await;
}

#[tokio::test]
async fn what_the_inbox_may_have_forgotten_is_replayed_by_force_alone() {
    let house = House::new().await;
    let running = house.run_troubled(1);
    let [letter] = &*house.send_dead(1).await else { unreachable!() };
    assert!(!letter.is_expired);
    sqlx::query("update dead_letter set expires_at = clock_timestamp()")
        .execute(&house.pool)
        .await
        .unwrap();
    assert!(house.letter(letter.id).await.is_expired);
    assert!(refused(running.letters.request(one(letter)).await).contains("expired"));
    assert!(refused(running.letters.request(all()).await).contains("nothing to replay"));
    let forced = house.replay(&running.letters, NewReplay { force: true, ..all() }).await.replay;
    assert_eq!(outcomes(&forced), [1, 0, 0, 0, 0]);
    running.end().await;
}

#[tokio::test]
async fn an_edited_letter_is_replayed_as_it_was_edited_and_keeps_what_it_was() {
    let house = House::new().await;
    let running = house.run_troubled(usize::MAX);
    let [letter] = &*house.send_dead(1).await else { unreachable!() };
    let before = consumer::letter(&house.pool, letter.id).await.unwrap();
    let mut data: serde_json::Value =
        serde_json::from_slice(&before.value.as_ref().unwrap().0).unwrap();
    for (wrong, why) in [
        (json!("no object"), "value"),
        (json!({"number": "other", "owner": "acme", "email": FINE}), "subject"),
        (json!({"number": data["number"], "owner": "acme", "email": "\u{0}"}), "U+0000"),
    ] {
        let refused = refused(running.letters.edit(letter.id, &raw(&wrong), "ada", "typo").await);
        assert!(refused.contains(why), "{refused}");
    }
    data["email"] = FINE.into();
    running.letters.edit(letter.id, &raw(&data), "ada", "typo").await.unwrap();
    data["note"] = "twice".into();
    let edited = running.letters.edit(letter.id, &raw(&data), "grace", "again").await.unwrap();
    let edit = edited.edit.unwrap();
    assert_eq!((&*edit.by, &*edit.why, edit.before), ("grace", "again", before.value));
    let replay = house.replay(&running.letters, all()).await.replay;
    assert_eq!(outcomes(&replay), [1, 0, 0, 0, 0]);
    let closed = refused(running.letters.edit(letter.id, &raw(&data), "ada", "late").await);
    assert!(closed.contains("resolved"), "{closed}");
    running.end().await;
}

#[tokio::test]
async fn the_replay_of_a_letter_is_shown_however_often_it_was_rehearsed() {
    let house = House::new().await;
    let running = house.run_troubled(1);
    let [letter] = &*house.send_dead(1).await else { unreachable!() };
    let replay = house.replay(&running.letters, one(letter)).await.replay;
    // As many as are shown, before it and after it by their ids.
    sqlx::raw_sql(
        "with rehearsed as (
             insert into dead_letter_replay (id, subscription, rehearsal, status, ramp, force, requested_by)
             select cast(side || lpad(n::text, 30, '0') as uuid), subscription, true, 'done', false, false, 'bob'
             from dead_letter_replay, generate_series(1, 150) n, (values ('00'), ('ff')) sides (side) returning id
         )
         insert into dead_letter_replay_item (replay, letter, was) select rehearsed.id, seq, 'dead' from rehearsed, dead_letter",
    )
    .execute(&house.pool)
    .await
    .unwrap();
    let shown = consumer::flow_replays(&house.pool, &[letter.id]).await.unwrap();
    let of_replays = shown.iter().filter(|it| !it.rehearsal).map(|it| (it.replay_id, &*it.by));
    assert_eq!((shown.len(), of_replays.collect::<Vec<_>>()), (150, vec![(replay.id, "ada")]));
    running.end().await;
}

#[tokio::test]
async fn letters_are_discarded_restored_and_erased() {
    let house = House::new().await;
    let running = house.run_troubled(3);
    let letters = house.send_dead(3).await;
    let ids = |letters: &[LetterSummary]| Selection::Ids(letters.iter().map(|it| it.id).collect());
    let pool = &house.pool;
    assert_eq!(consumer::discard_letters(pool, GROUP, &ids(&letters[..2])).await.unwrap(), 2);
    assert!(refused(running.letters.request(one(&letters[0])).await).contains("is discarded"));
    assert_eq!(consumer::restore_letters(pool, GROUP, &ids(&letters[..1])).await.unwrap(), 1);
    assert!(
        refused(consumer::restore_letters(pool, GROUP, &ids(&letters[..1])).await).contains("none")
    );
    let unknown = Selection::Ids(vec![Uuid::now_v7()]);
    assert!(
        refused(consumer::discard_letters(pool, GROUP, &unknown).await).contains("no dead letter")
    );
    let replay = house.replay(&running.letters, one(&letters[0])).await.replay;
    assert_eq!(outcomes(&replay), [1, 0, 0, 0, 0]);

    assert_eq!(
        consumer::erase_letters(pool, &CUSTOMER[1..]).await.unwrap(),
        0,
        "a part of it is another's"
    );
    let queued = running.letters.request(one(&letters[2])).await.unwrap();
    consumer::pause_replay(pool, queued.id, "ada").await.unwrap();
    assert!(refused(consumer::erase_letters(pool, CUSTOMER).await).contains("being replayed"));
    consumer::cancel_replay(pool, queued.id, "ada").await.unwrap();
    house.quote_customer().await;
    assert_eq!(consumer::erase_letters(pool, &CUSTOMER.to_uppercase()).await.unwrap(), 4);
    for letter in &letters {
        let erased = consumer::letter(pool, letter.id).await.unwrap();
        assert!(erased.value.is_none() && erased.key.is_none() && erased.headers.is_empty());
        assert_ne!(erased.summary.status, "dead");
        assert_eq!(erased.summary.correlation_id, letter.correlation_id, "it has no address");
    }
    let left = "select concat_ws(', ', (select why from pause), (select reason from breaker),
                                 (select reason from replay), (select distinct note from dead_letter_replay))";
    let left: String = sqlx::query_scalar(left).fetch_one(pool).await.unwrap();
    assert_eq!(left, "erased, erased, erased, erased");
    // As an earlier release has left erased letters.
    sqlx::query("update dead_letter set event_id = $1, correlation_id = $1")
        .bind(format!("signup/{CUSTOMER}"))
        .execute(pool)
        .await
        .unwrap();
    assert_eq!(consumer::erase_letters(pool, CUSTOMER).await.unwrap(), 0);
    for table in ["dead_letter", "attempt"] {
        let named = format!("{table} where num_nonnulls(event_id, correlation_id) > 0");
        assert_eq!(house.count(&named).await, 0, "{table}");
    }
    assert!(refused(consumer::restore_letters(pool, GROUP, &ids(&letters)).await).contains("none"));
    running.end().await;
}

impl House {
    /// Writes the customer's address beside the letters.
    async fn quote_customer(&self) {
        for statement in [
            "insert into pause (subscription, paused_by, why) values ('p', 'ada', $1)",
            "insert into breaker (subscription, event_type, fingerprint, reason) values ('p', 't', 'f', $1)",
            r#"insert into replay (id, subscription, topic, partition, "offset", outcome, reason)
               values ('r', 'p', 't', 0, 0, 'failed', $1)"#,
            "update dead_letter_replay set note = $1",
            r#"insert into attempt (subscription, topic, partition, "offset", attempts, event_id, correlation_id)
               values ('p', 't', 0, 0, 1, $1, $1)"#,
            // Only its correlation id has the address.
            r#"insert into dead_letter (id, subscription, topic, partition, "offset", "timestamp", header_names, header_values,
                   correlation_id, exception, reason, causes, fingerprint)
               values (gen_random_uuid(), 'p', 't', 0, 0, 0, '{}', '{}', $1, '', '', '', '')"#,
        ] {
            let quoting = format!("no mailbox <{CUSTOMER}>");
            sqlx::query(statement).bind(quoting).execute(&self.pool).await.unwrap();
        }
    }
}

#[tokio::test]
async fn erasures_and_changes_of_letters_occupy_one_connection() {
    let house = House::new().await;
    let few = pg::PoolOptions::new("few").max_connections(2);
    let few = few.connect_lazily(house.space.database_url().parse().unwrap());
    let mut holding = house.pool.begin().await.unwrap();
    sqlx::query("lock table dead_letter").execute(&mut *holding).await.unwrap();
    let observing = async {
        let waits = async || {
            let waits = "select exists (select from pg_locks where relation = 'dead_letter'::regclass and not granted
                             and database = (select oid from pg_database where datname = current_database()))";
            let waits = sqlx::query_scalar::<_, bool>(waits).fetch_one(&house.pool);
            waits.await.unwrap().then_some(())
        };
        eventually("somebody to wait for the table", PATIENCE, waits).await;
        assert_eq!(few.size(), 1, "the other one waits without a connection");
        holding.rollback().await.unwrap();
    };
    let every = Selection::Filter(LetterFilter::default());
    let (erased, discarded, ()) = tokio::join!(
        consumer::erase_letters(&few, CUSTOMER),
        consumer::discard_letters(&few, GROUP, &every),
        observing
    );
    assert_eq!(erased.unwrap(), 0);
    assert!(refused(discarded).contains("none"));
}

#[tokio::test]
async fn letters_of_one_kind_are_a_group_that_resolves_and_regresses() {
    let house = House::new().await;
    let running = house.run_troubled(3);
    house.send_dead(2).await;
    let group = async || {
        let page = consumer::letter_groups(&house.pool, Some(GROUP), 100, None).await.unwrap();
        assert_eq!(page.items.len(), 1);
        page.items.into_iter().next().unwrap()
    };
    let found = group().await;
    assert_eq!((&*found.status, found.open, found.resolved), ("open", 2, 0));
    let pool = &house.pool;
    let acknowledged = consumer::set_letter_group(
        pool,
        &found.fingerprint,
        GroupStatus::Acknowledged,
        Some("mine"),
        "ada",
    );
    let acknowledged = acknowledged.await.unwrap();
    assert_eq!(
        (&*acknowledged.status, acknowledged.note.as_deref()),
        ("acknowledged", Some("mine"))
    );
    let unknown = consumer::set_letter_group(pool, "none", GroupStatus::Open, None, "ada").await;
    assert!(refused(unknown).contains("no dead letters"));
    let filter = LetterFilter { fingerprint: Some(found.fingerprint), ..LetterFilter::default() };
    // The third failure is left for a message that comes after.
    running.faults.set(None);
    let replay = house.replay(&running.letters, new(Selection::Filter(filter))).await.replay;
    assert_eq!(replay.outcomes.failed + replay.outcomes.processed, 2);
    house.replay_rest(&running).await;
    assert_eq!(group().await.status, "resolved");
    let (fingerprint, acknowledged) = (group().await.fingerprint, GroupStatus::Acknowledged);
    consumer::set_letter_group(pool, &fingerprint, acknowledged, None, "ada").await.unwrap();
    running.faults.set(Some(consumer::Fault::new(consumer::FaultKind::Permanent)));
    running.end().await;
    let running = house.run_troubled(1);
    house.send::<ParcelPacked>(ParcelId::new(), 1, CUSTOMER).await;
    house.letters_of(3).await;
    assert_eq!(group().await.status, "regressed");
    running.end().await;
    for (letters, status, name) in
        [(4, acknowledged, "acknowledged"), (5, GroupStatus::Ignored, "ignored")]
    {
        consumer::set_letter_group(pool, &fingerprint, status, None, "ada").await.unwrap();
        let running = house.run_troubled(1);
        house.send::<ParcelPacked>(ParcelId::new(), 1, CUSTOMER).await;
        house.letters_of(letters).await;
        assert_eq!(group().await.status, name, "until somebody changes it");
        running.end().await;
    }
}

impl House {
    /// Replays until all are resolved.
    async fn replay_rest(&self, running: &Running) {
        while let Ok(replay) = running.letters.request(all()).await {
            self.replay_is(replay.id, &["done"]).await;
        }
    }
}

#[tokio::test]
async fn a_dead_letter_behind_an_open_message_is_not_attempted_again_by_the_next_instance() {
    let house = House::new().await;
    let patient = Options { first_backoff: PATIENCE * 60, ..House::options() };
    let subscription = |dies: Note<ParcelShipped>| {
        let waits = troubled::<ParcelPacked>(usize::MAX, || Failure::transient(io()));
        Subscription::new(GROUP).each_once(waits).each_once_from("parcel.packed", dies)
    };
    let dies = || troubled::<ParcelShipped>(9, || Failure::permanent(io()));
    let running = house.run_with(patient.clone(), subscription(dies()));
    // Of one partition, and of two keys.
    house
        .publish_on("parcel.packed", 0, &house.event::<ParcelPacked>(ParcelId::new(), 1, CUSTOMER))
        .await;
    let parked = async || (house.counter("consumer_parked", "") == 1).then_some(());
    eventually("the first to wait", PATIENCE, parked).await;
    house
        .publish_on("parcel.packed", 0, &house.event::<ParcelShipped>(ParcelId::new(), 1, CUSTOMER))
        .await;
    house.letters_of(1).await;
    running.end().await;

    let dies = dies();
    let left = Arc::clone(&dies.times);
    let running = house.run_with(patient, subscription(dies));
    let parcel = ParcelId::new();
    house.publish_on("parcel.packed", 0, &house.event::<ParcelShipped>(parcel, 1, FINE)).await;
    house.has(parcel, &[1]).await;
    let consumed = house.counter("messaging_client_consumed_messages_total", "");
    assert_eq!(consumed, 5, "both came again");
    assert_eq!(house.counter("consumer_dead_lettered_total", ""), 1);
    assert_eq!(left.load(Ordering::SeqCst), 9, "and no attempt was made");
    running.end().await;
}
