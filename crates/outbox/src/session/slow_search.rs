//! Tests that nothing waits for a slow search of shards, as while a backup's snapshot keeps dead
//! rows, and nothing is lost; and that shards that can't be searched at all are left to others.

use std::time::{Duration, Instant};

use sandbox::testing::eventually;
use sqlx::{Postgres, Transaction};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::tests::{Stage, shared};
use super::{Searcher, Session, SessionError};
use crate::relay::RelayWaker;
use crate::shards::Shards;

const TOO_SHORT: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_mins(1);

/// Returns a snapshot that keeps many dead rows in all lanes.
async fn backup(stage: &Stage) -> Transaction<'static, Postgres> {
    let mut backup = stage.pool.begin().await.unwrap();
    sqlx::raw_sql("set transaction isolation level repeatable read; select count(*) from outbox")
        .execute(&mut *backup)
        .await
        .unwrap();
    for shard in 0..16 {
        stage.insert_many(shard, "K", 2_000).await;
    }
    sqlx::query("delete from outbox").execute(&stage.pool).await.unwrap();
    backup
}

impl Session<'static> {
    /// Starts another relay, which takes half of the shards, and stops it.
    async fn other_relay_comes_and_goes(&mut self, stage: &Stage) {
        let mut other = Shards::connect(&stage.options).await.unwrap();
        self.ticked().await;
        assert_eq!(shared(&mut other).await, 8);
        other.release().await;
        // Its backend ends, and releases its locks, a moment after its connection.
        let sessions =
            "select count(distinct pid) from pg_locks where locktype = 'advisory' and granted
             and database = (select oid from pg_database where datname = current_database())";
        let is_alone = async || {
            let sessions: i64 = sqlx::query_scalar(sessions).fetch_one(&stage.pool).await.unwrap();
            (sessions == 1).then_some(())
        };
        eventually("the other relay's locks to be released", LONG, is_alone).await;
    }
}

#[tokio::test]
async fn a_search_that_takes_too_long_ends_no_session_and_is_repeated() {
    let stage = Stage::new().await;
    let mut session = stage.session(1).await;
    let _backup = backup(&stage).await;
    session.prove_all().await;
    session.new_rows().await;
    session.searcher.limit = TOO_SHORT;
    session.sweep().await;
    assert!(session.searcher.is_failing());
    let next = session.searcher.next_sweep;
    assert!(next > Instant::now() + Duration::from_secs(5), "not at once");

    let overlooked = stage.insert(0, "K").await;
    session.after = overlooked;
    session.searcher.limit = LONG;
    session.sweep().await;
    session.left_rows().await;
    assert_eq!(session.under_way(), [overlooked]);
}

#[tokio::test]
async fn while_shards_that_were_taken_are_searched_the_others_are_read() {
    let stage = Stage::new().await;
    let mut session = stage.session(1).await;
    let _backup = backup(&stage).await;
    session.other_relay_comes_and_goes(&stage).await;
    let [taken, owned] = [stage.insert(15, "K").await, stage.insert(0, "L").await];
    session.searcher.limit = TOO_SHORT;
    session.ticked().await;
    assert_eq!(session.shards.owned().len(), 8, "it is not known what waits in the others");
    session.new_rows().await;
    assert_eq!(session.under_way(), [owned]);

    session.searcher.limit = LONG;
    session.ticked().await;
    assert_eq!(session.shards.owned().len(), 16);
    session.new_rows().await;
    session.left_rows().await;
    assert_eq!(session.under_way(), [taken, owned]);
}

#[tokio::test]
async fn what_is_written_while_a_shard_is_searched_follows_what_waited_in_it() {
    let stage = Stage::new().await;
    let mut session = stage.session(1).await;
    session.other_relay_comes_and_goes(&stage).await;
    let first = stage.insert(15, "K").await;
    session.prove_all().await;
    session.new_rows().await;
    assert!(session.after >= first);
    session.tick().await.unwrap();
    session.searcher.wait().await; // it has found what it finds
    let second = stage.insert(15, "K").await;
    let in_an_empty_shard = stage.insert(14, "M").await;
    let other = stage.insert(0, "L").await;
    session.prove_all().await;
    session.new_rows().await;
    assert!(session.after >= other);
    session.ticked().await;
    assert_eq!(session.shards.owned().len(), 16);
    session.new_rows().await;
    session.left_rows().await;
    assert_eq!(session.under_way(), [first, second, in_an_empty_shard, other]);
}

#[tokio::test]
async fn a_relay_that_can_not_search_its_shards_says_why_and_leaves_them_to_others() {
    let stage = Stage::new().await;
    let mut session = stage.session(1).await;
    session.other_relay_comes_and_goes(&stage).await;
    session.searcher = Searcher::new(stage.options.clone().host("127.0.0.1").port(1));
    let (wake, shutdown) = (RelayWaker::default(), CancellationToken::new());
    let ended = timeout(LONG, session.run(&wake, &shutdown, false, || {})).await;
    let error = ended.expect("the session ends").unwrap_err();
    assert!(matches!(error, SessionError::Search(_)), "{error:?}");
    let why = telemetry::error_chain(&error);
    assert!(why.contains("refused"), "{why}");

    drop(session);
    let mut other = Shards::connect(&stage.options).await.unwrap();
    let has_all = async || (shared(&mut other).await == 16).then_some(());
    eventually("the other relay to take all shards", LONG, has_all).await;
    let unreachable = Searcher::open(stage.options.clone().host("127.0.0.1").port(1)).await;
    assert!(unreachable.is_err(), "it is found out before any shard is taken");
}
