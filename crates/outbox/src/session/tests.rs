//! Runs the parts of a session one after the other on a real database. Kafka is unreachable and its
//! answers are simulated, so that each interleaving can be provoked.

use std::time::{Duration, Instant};

use kafka::Settings;
use kafka::rdkafka::error::{KafkaError, RDKafkaErrorCode};
use sandbox::testing::TestSpace;
use sqlx::postgres::PgConnectOptions;
use sqlx::{PgExecutor, PgPool};
use telemetry::{FlowSteps, Metrics};
use tokio::sync::watch;
use tokio::time::sleep;

use super::completing::RefusedRecord;
use super::*;
use crate::cluster::TopicAnswer;
use crate::pause::PublishPause;

const TOPIC: &str = "parcel.shipped";
/// Longer than the first pauses: 250 and 500 ms.
pub(super) const PAUSES: Duration = Duration::from_millis(600);
/// A key is retried for a tenth of the time at most: the slower this machine is, the longer it
/// waits.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) struct Stage {
    pub(super) pool: PgPool,
    pub(super) options: PgConnectOptions,
    _space: TestSpace,
}

impl Stage {
    pub(super) async fn new() -> Self {
        let space = TestSpace::new().await;
        let pool = PgPool::connect(space.database_url()).await.unwrap();
        crate::migrate(&pool).await.unwrap();
        Self { pool, options: space.database_url().parse().unwrap(), _space: space }
    }

    /// Begins a session that owns all shards and knows the number of the topic's partitions.
    pub(super) async fn session(&self, partitions: usize) -> Session<'static> {
        self.session_with(partitions, "").await
    }

    async fn session_with(&self, partitions: usize, properties: &str) -> Session<'static> {
        let shards = Shards::connect(&self.options).await.unwrap();
        let settings = Settings::new("127.0.0.1:1", "").with_properties(properties).unwrap();
        let (sender, completed) = Sender::new(&settings, FlowSteps::off()).unwrap();
        let searcher = Searcher::new(self.options.clone());
        let instruments = Instruments::new(&Metrics::new("test").meter("outbox"));
        let reporter = PauseReporter::new(watch::Sender::default());
        let (instruments, reporter) = (Box::leak(instruments.into()), Box::leak(reporter.into()));
        let mut session = Session::new(shards, searcher, sender, completed, instruments, reporter);
        session.find_horizon().await.unwrap();
        session.ticked().await;
        session.topics.id(TOPIC);
        session.receive_metadata(partitions, &[]);
        session
    }

    pub(super) async fn insert(&self, shard: i16, key: &str) -> i64 {
        insert(&self.pool, shard, key).await
    }

    /// Inserts many rows of a key.
    pub(super) async fn insert_many(&self, shard: i16, key: &str, rows: i32) {
        sqlx::query(
            "insert into outbox (shard, topic, key, headers, payload)
             select $1, $2, $3, '{}', 'x' from generate_series(1, $4)",
        )
        .bind(shard)
        .bind(TOPIC)
        .bind(key)
        .bind(rows)
        .execute(&self.pool)
        .await
        .unwrap();
    }

    /// Returns the ids of the rows that are there.
    pub(super) async fn ids(&self) -> Vec<i64> {
        sqlx::query_scalar("select id from outbox order by id").fetch_all(&self.pool).await.unwrap()
    }
}

pub(super) async fn insert(executor: impl PgExecutor<'_>, shard: i16, key: &str) -> i64 {
    sqlx::query_scalar(
        "insert into outbox (shard, topic, key, headers, payload) values ($1, $2, $3, '{}', 'x') returning id",
    )
    .bind(shard)
    .bind(TOPIC)
    .bind(key)
    .fetch_one(executor)
    .await
    .unwrap()
}

impl Session<'static> {
    pub(super) fn topic(&mut self) -> TopicId {
        self.topics.id(TOPIC)
    }

    /// Passes an answer of the cluster to the session.
    pub(super) fn receive_metadata(&mut self, partitions: usize, without_leader: &[i32]) {
        let without_leader = without_leader.to_vec();
        let answer = TopicAnswer::Exists { partitions, without_leader };
        self.take_answers(&[(TOPIC.to_owned(), answer)].into());
    }

    pub(super) fn acknowledge(&mut self, id: i64) {
        self.complete(Completion::of_test(id, Ok(7)));
    }

    pub(super) fn refuse_with(&mut self, id: i64, code: RDKafkaErrorCode) {
        self.complete(Completion::of_test(id, Err(KafkaError::MessageProduction(code))));
    }

    /// Refuses a record that is in flight alone.
    pub(super) fn refuse_alone(&mut self, topic: TopicId, row: i64, key: &str) {
        let (partition, shard, cost) = (0, 0, 1024);
        let (is_alone, is_void) = (true, false);
        let refused =
            RefusedRecord { topic, partition, shard, id: row, key, cost, is_alone, is_void };
        self.refuse_key(&refused, "invalid record");
        self.passed.insert(row, topic);
    }

    /// Proves that all assigned ids are visible.
    pub(super) async fn prove_all(&mut self) {
        for _ in 0..3 {
            self.horizon.look(self.shards.session()).await.unwrap().unwrap();
        }
    }

    pub(super) async fn new_rows(&mut self) {
        self.read_new(Instant::now()).await.unwrap();
    }

    pub(super) async fn left_rows(&mut self) {
        self.read_lanes(Instant::now()).await.unwrap();
    }

    /// Reads the rows left aside until `first` is in flight, alone. `behind` must not overtake it.
    async fn tries_again(&mut self, first: i64, behind: i64) {
        let deadline = Instant::now() + PATIENCE;
        while self.under_way() != [first] {
            assert!(Instant::now() < deadline, "it is not tried again");
            self.left_rows().await;
            assert!(!self.under_way().contains(&behind), "it does not overtake");
            sleep(Duration::from_millis(20)).await;
        }
        for _ in 0..3 {
            self.left_rows().await;
            assert_eq!(self.under_way(), [first], "it does not overtake");
        }
    }

    /// Shares the shards, and searches those that were taken.
    pub(super) async fn ticked(&mut self) {
        self.tick().await.unwrap();
        self.take_search().await.unwrap();
        while self.searcher.running.is_some() {
            self.searcher.wait().await;
            self.take_search().await.unwrap();
        }
    }

    /// Searches for overlooked rows.
    pub(super) async fn sweep(&mut self) {
        self.searcher.next_sweep = Instant::now();
        self.ticked().await;
    }

    /// Ends all pauses.
    pub(super) fn expire_pauses(&mut self) {
        for (_, topic) in self.topics.iter_mut() {
            topic.partitions.iter_mut().for_each(|it| it.retries.rested());
            let partitions = topic.partitions.iter_mut().map(|it| &mut it.pause);
            let keys = topic.keys.values_mut().map(|it| &mut it.pause);
            let pauses = [&mut topic.pause].into_iter().chain(partitions).chain(keys);
            pauses.flatten().for_each(PublishPause::expire);
        }
    }

    pub(super) fn under_way(&self) -> Vec<i64> {
        self.flights.above(0).collect()
    }
}

fn three_seconds_ago() -> Instant {
    Instant::now().checked_sub(Duration::from_secs(3)).unwrap()
}

/// Lets another relay take its share. Returns the number of shards that it took.
pub(super) async fn shared(other: &mut Shards) -> usize {
    other.share(0, |_| ShardLoad::Idle).await.unwrap();
    other.fresh().len()
}

/// Returns a key of this partition, of a topic with two partitions.
pub(super) fn key_of(partition: i32, number: usize) -> String {
    let keys = (0..).map(|number| format!("K-{number}"));
    let mut keys = keys.filter(|key| kafka::partition_of(key.as_bytes(), 2) == partition);
    keys.nth(number).unwrap()
}

#[tokio::test]
async fn a_record_that_its_topic_refuses_is_not_overtaken_by_what_was_left_to_its_partition() {
    let stage = Stage::new().await;
    let mut session = stage.session(1).await;
    let [first, second] = [stage.insert(0, "K").await, stage.insert(0, "K").await];
    session.new_rows().await;
    for id in [first, second] {
        session.refuse_with(id, RDKafkaErrorCode::TopicAuthorizationFailed);
    }
    sleep(PAUSES).await;
    session.receive_metadata(1, &[]);
    session.left_rows().await;
    assert_eq!(session.under_way(), [first], "one is tried");
    session.refuse_with(first, RDKafkaErrorCode::TopicAuthorizationFailed);
    sleep(PAUSES).await;
    session.receive_metadata(1, &[]);
    session.tries_again(first, second).await;
    session.acknowledge(first);
    for _ in 0..3 {
        session.left_rows().await;
    }
    assert_eq!(session.under_way(), [second]);
}

#[tokio::test]
async fn a_record_that_its_partition_refuses_is_not_overtaken_by_what_was_left_to_its_key() {
    let stage = Stage::new().await;
    let mut session = stage.session(1).await;
    let topic = session.topic();
    let [first, second] = [stage.insert(0, "K").await, stage.insert(0, "K").await];
    session.refuse_alone(topic, first, "K");
    session.after = second;
    session.tries_again(first, second).await;
    session.refuse_with(first, RDKafkaErrorCode::NotEnoughReplicas);
    sleep(PAUSES).await;
    session.tries_again(first, second).await;
}

#[tokio::test]
async fn a_record_that_was_under_way_behind_a_refused_one_makes_no_scope_of_its_own() {
    let stage = Stage::new().await;
    let mut session = stage.session(1).await;
    let [first, second] = [stage.insert(0, "K").await, stage.insert(0, "K").await];
    session.new_rows().await;
    session.refuse_with(first, RDKafkaErrorCode::TopicAuthorizationFailed);
    session.refuse_with(second, RDKafkaErrorCode::NotEnoughReplicas);
    sleep(PAUSES).await;
    session.receive_metadata(1, &[]);
    session.tries_again(first, second).await;
}

#[tokio::test]
async fn an_event_that_commits_late_is_not_forgotten_by_the_page_that_leaves_it_to_its_partition() {
    let stage = Stage::new().await;
    let mut writer = stage.pool.begin().await.unwrap();
    let late = insert(&mut *writer, 0, &key_of(1, 0)).await;
    let mut session = stage.session(2).await;
    let topic = session.topic();
    let next = stage.insert(0, &key_of(1, 1)).await;
    session.receive_metadata(2, &[1]);
    session.new_rows().await;
    session.leave_topic(topic);
    writer.commit().await.unwrap();
    for _ in 0..3 {
        session.horizon.look(session.shards.session()).await.unwrap().unwrap();
    }
    session.new_rows().await;
    assert!(session.after >= next);
    session.receive_metadata(2, &[]);
    for _ in 0..3 {
        session.left_rows().await;
        session.new_rows().await;
        for id in session.under_way() {
            session.acknowledge(id);
        }
    }
    session.delete().await.unwrap();
    let left: Vec<i64> =
        sqlx::query_scalar("select id from outbox").fetch_all(&stage.pool).await.unwrap();
    assert!(!left.contains(&late) && left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn the_search_for_overlooked_events_is_not_misled_by_what_was_left_to_another_key() {
    let stage = Stage::new().await;
    let mut session = stage.session(2).await;
    let topic = session.topic();
    let poison = stage.insert(0, &key_of(0, 0)).await;
    session.refuse_alone(topic, poison, &key_of(0, 0));
    sqlx::query("delete from outbox").execute(&stage.pool).await.unwrap();
    let overlooked = stage.insert(0, &key_of(0, 1)).await;
    session.after = overlooked;
    session.sweep().await;
    session.left_rows().await;
    assert_eq!(session.under_way(), [overlooked]);
}

#[tokio::test]
async fn the_search_for_overlooked_events_looks_behind_those_that_are_under_way() {
    let stage = Stage::new().await;
    let mut session = stage.session(1).await;
    let first = stage.insert(0, "K").await;
    session.new_rows().await;
    let overlooked = stage.insert(0, "L").await;
    session.after = overlooked;
    session.sweep().await;
    session.left_rows().await;
    assert_eq!(session.under_way(), [first, overlooked]);
}

#[tokio::test]
async fn rows_of_a_shard_that_comes_back_are_read_again() {
    let stage = Stage::new().await;
    let mut session = stage.session(1).await;
    let row = stage.insert(15, "K").await;
    session.receive_metadata(1, &[0]);
    session.new_rows().await;
    let mut other = Shards::connect(&stage.options).await.unwrap();
    session.ticked().await;
    assert_eq!(shared(&mut other).await, 8);
    other.release().await;
    while session.shards.owned().len() < 16 {
        session.ticked().await;
    }
    session.receive_metadata(1, &[]);
    session.new_rows().await;
    session.left_rows().await;
    assert_eq!(session.under_way(), [row]);
}

#[tokio::test]
async fn a_partition_that_waits_for_long_does_not_fill_the_memory_with_ids() {
    let stage = Stage::new().await;
    let mut session = stage.session(1).await;
    sqlx::query(
        "insert into outbox (shard, topic, key, headers, payload)
         select n % 16, $1, 'K-' || n, '{}', 'x' from generate_series(1, 12000) n",
    )
    .bind(TOPIC)
    .execute(&stage.pool)
    .await
    .unwrap();
    session.receive_metadata(1, &[0]);
    for _ in 0..15 {
        session.new_rows().await;
    }
    assert!(session.passed.len() <= 10_000, "{}", session.passed.len());
    session.receive_metadata(1, &[]);
    session.left_rows().await;
    assert!(!session.under_way().is_empty(), "they are read once they can be sent");
}

#[tokio::test]
async fn a_refused_key_is_tried_again_in_a_partition_of_its_own() {
    let stage = Stage::new().await;
    let mut session = stage.session(1).await;
    let topic = session.topic();
    let poison = stage.insert(0, "K").await;
    session.refuse_alone(topic, poison, "K");
    let other = stage.insert(0, "L").await;
    session.new_rows().await;
    assert_eq!(session.under_way(), [other]);
    sleep(PAUSES).await;
    session.left_rows().await;
    assert_eq!(session.under_way(), [other], "not in company");
    let next = stage.insert(0, "L").await;
    session.new_rows().await;
    assert_eq!(session.under_way(), [other], "the partition is let run empty");
    session.acknowledge(other);
    session.left_rows().await;
    assert_eq!(session.under_way(), [poison]);
    session.new_rows().await;
    assert_eq!(session.under_way(), [poison], "and kept so");
    session.refuse_with(poison, RDKafkaErrorCode::InvalidRecord);
    for _ in 0..3 {
        session.new_rows().await;
        session.left_rows().await;
    }
    assert_eq!(session.under_way(), [next], "it is the key that is refused");
}

#[tokio::test]
async fn a_key_whose_record_the_client_refuses_reserves_no_partition() {
    let stage = Stage::new().await;
    let mut session = stage.session(1).await;
    let poison = stage.insert(0, "K").await;
    sqlx::query("update outbox set headers = '[]' where id = $1")
        .bind(poison)
        .execute(&stage.pool)
        .await
        .unwrap();
    session.new_rows().await;
    assert_eq!(session.under_way(), [0; 0], "its headers can't be read");
    sleep(PAUSES).await;
    session.left_rows().await;
    let other = stage.insert(0, "L").await;
    session.new_rows().await;
    assert_eq!(session.under_way(), [other]);
}

#[tokio::test]
async fn a_full_queue_of_the_client_holds_up_no_reads() {
    let stage = Stage::new().await;
    let mut session = stage.session_with(1, "queue.buffering.max.messages=1").await;
    let [first, second] = [stage.insert(0, "K").await, stage.insert(0, "L").await];
    session.new_rows().await;
    assert_eq!(session.under_way(), [first]);
    assert!(session.can_read(), "rows of other topics are read");
    let topic = session.topic();
    assert!(session.topics.get(topic).pause.is_none(), "nothing is reported as paused");
    session.left_rows().await;
    assert_eq!(session.under_way(), [first]);
    session.sender = {
        let settings = Settings::new("127.0.0.1:1", "");
        Sender::new(&settings, FlowSteps::off()).unwrap().0
    };
    sleep(Duration::from_millis(100)).await;
    session.left_rows().await;
    assert_eq!(session.under_way(), [first, second], "it is tried again");
}

#[tokio::test]
async fn answers_of_the_cluster_are_taken_while_there_is_work() {
    let stage = Stage::new().await;
    let mut session = stage.session(1).await;
    let answer = TopicAnswer::Exists { partitions: 3, without_leader: Vec::new() };
    let answers: Answers = [(TOPIC.to_owned(), answer)].into();
    session.asking_limits.take().unwrap().abort();
    session.asking = Some(tokio::spawn(async { answers }));
    while !session.asking.as_ref().unwrap().is_finished() {
        tokio::task::yield_now().await;
    }
    session.next_poll = Instant::now();
    session.wait(&RelayWaker::default(), &CancellationToken::new()).await;
    let topic = session.topic();
    assert_eq!(session.topics.get(topic).count(), Some(3));
}

#[tokio::test]
async fn a_session_does_not_work_before_kafka_has_confirmed_what_it_is_to_write() {
    let stage = Stage::new().await;
    let mut session = stage.session(1).await;
    let topic = session.topic();
    session.topics.get_mut(topic).confirmed = None;
    stage.insert(0, "K").await;
    session.new_rows().await;
    assert!(session.topics.get(topic).has_aside() && !session.works(false));
    session.receive_metadata(1, &[]);
    assert!(session.works(false));
    assert!(!session.works(true), "this producer may be refused like the last one");
    session.started = Instant::now().checked_sub(SETTLES).unwrap();
    assert!(session.works(true));
}

#[tokio::test]
async fn after_an_outage_the_partitions_of_a_topic_are_read_together_again() {
    let stage = Stage::new().await;
    let mut session = stage.session(2).await;
    let mut expected = Vec::new();
    for number in 0..30 {
        expected.push(stage.insert(number % 2, &key_of(0, 0)).await);
        stage.insert(number % 2, &key_of(1, 0)).await;
    }
    session.receive_metadata(2, &[0, 1]);
    session.new_rows().await;
    let topic = session.topic();
    assert!((0..2).all(|it| session.topics.get(topic).partition(it).unwrap().aside.is_some()));
    session.receive_metadata(2, &[]);
    let mut sent = Vec::new();
    while sent.len() < 60 {
        session.left_rows().await;
        session.new_rows().await;
        let under_way = session.under_way();
        assert!(!under_way.is_empty(), "{sent:?}");
        for id in under_way {
            session.acknowledge(id);
            sent.push(id);
        }
        assert!((0..2).all(|it| session.topics.get(topic).partition(it).unwrap().aside.is_none()));
    }
    for shard in 0..2 {
        let of_shard = |all: &[i64]| -> Vec<_> {
            all.iter()
                .copied()
                .filter(|id| expected.contains(id) && (id - 1) / 2 % 2 == shard)
                .collect()
        };
        assert_eq!(of_shard(&sent), of_shard(&expected), "in order");
    }
    session.delete().await.unwrap();
    let left: i64 =
        sqlx::query_scalar("select count(*) from outbox").fetch_one(&stage.pool).await.unwrap();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn a_partition_that_takes_records_again_does_not_hold_up_one_that_always_did() {
    let stage = Stage::new().await;
    let mut session = stage.session(2).await;
    let topic = session.topic();
    for _ in 0..30 {
        stage.insert(0, &key_of(0, 0)).await;
    }
    session.receive_metadata(2, &[0]);
    session.new_rows().await;
    session.receive_metadata(2, &[]);
    session.left_rows().await;
    let first = session.under_way()[0];
    session.acknowledge(first);
    assert!(session.topics.get(topic).aside.is_none());
    let live = stage.insert(0, &key_of(1, 0)).await;
    session.new_rows().await;
    assert!(session.under_way().contains(&live));
}

#[tokio::test]
async fn a_pause_ends_when_what_was_refused_is_deleted() {
    let stage = Stage::new().await;
    let mut session = stage.session(1).await;
    let topic = session.topic();
    let poison = stage.insert(0, "K").await;
    session.refuse_alone(topic, poison, "K");
    sqlx::query("delete from outbox").execute(&stage.pool).await.unwrap();
    sleep(PAUSES).await;
    session.left_rows().await;
    assert!(session.topics.get(topic).keys.is_empty());

    let refused = stage.insert(0, "K").await;
    session.new_rows().await;
    session.refuse_with(refused, RDKafkaErrorCode::UnknownTopicOrPartition);
    assert!(session.topics.get(topic).pause.is_some());
    sqlx::query("delete from outbox").execute(&stage.pool).await.unwrap();
    session.sweep().await;
    assert!(session.topics.get(topic).pause.is_none());
    assert!(!session.has_questions(Instant::now()), "nobody asks for a topic without events");
    let answer = TopicAnswer::Refused(RDKafkaErrorCode::UnknownTopicOrPartition);
    session.take_answers(&[(TOPIC.to_owned(), answer)].into());
    assert!(session.topics.get(topic).pause.is_none(), "nothing waits");
}

#[tokio::test]
async fn the_limit_of_a_topic_is_not_asked_for_with_each_answer() {
    let stage = Stage::new().await;
    let mut session = stage.session(1).await;
    session.asking_limits.take().unwrap().abort();
    session.receive_metadata(1, &[0]);
    assert!(session.asking_limits.is_none());
}

#[tokio::test]
async fn a_topic_that_stays_paused_is_exported_as_such_after_a_reconnect() {
    let metrics = Metrics::new("test");
    let instruments = Instruments::new(&metrics.meter("outbox"));
    let mut reporter = PauseReporter::new(watch::Sender::default());
    let mut topics = Topics::new(Settings::new("b", ""));
    let id = topics.id(TOPIC);
    PublishPause::extend(&mut topics.get_mut(id).pause, three_seconds_ago(), "unknown topic");
    let flights = InFlight::default();
    reporter.report(&topics, &flights, &instruments, true);
    instruments.export(TOPIC);
    reporter.report(&Topics::new(Settings::new("b", "")), &flights, &instruments, false);
    let line = format!("outbox_paused{{topic=\"{TOPIC}\",otel_scope_name=\"outbox\"}} 1");
    assert!(metrics.render().contains(&line), "{}", metrics.render());
}

#[tokio::test]
async fn an_election_is_not_reported_and_a_partition_for_which_nothing_waits_neither() {
    let stage = Stage::new().await;
    let mut session = stage.session(1).await;
    let topic = session.topic();
    session.receive_metadata(1, &[0]);
    let status = watch::Sender::default();
    let mut reporter = PauseReporter::new(status.clone());
    let mut report = |session: &Session<'_>| {
        reporter.report(&session.topics, &session.flights, session.instruments, true);
        status.borrow().len()
    };
    stage.insert(0, "K").await;
    session.new_rows().await;
    assert_eq!(report(&session), 0, "it has just begun");
    let since = three_seconds_ago();
    let partition = session.topics.get_mut(topic).partition_mut(0).unwrap();
    partition.set_leader(true, since);
    partition.set_leader(false, since);
    assert_eq!(report(&session), 1);
    session.topics.get_mut(topic).forget_waiting();
    assert_eq!(report(&session), 0, "nothing waits");
}

#[tokio::test]
async fn a_scope_that_is_not_read_yet_goes_on_waiting_for_what_is_under_way() {
    let stage = Stage::new().await;
    let mut session = stage.session(20).await;
    let topic = session.topic();
    for partition in &mut session.topics.get_mut(topic).partitions {
        let aside = partition.aside.get_or_insert_default();
        (0..16).for_each(|shard| aside.leave_refused(shard, 1));
    }
    session.left_rows().await;
    let partitions = &session.topics.get(topic).partitions;
    let left: Vec<_> = partitions.iter().filter_map(|it| it.aside.as_ref()).collect();
    assert_eq!(left.len(), 4, "there are more lanes than a statement reads");
    assert!(left.iter().all(|aside| aside.drains_first()));
}

#[tokio::test]
async fn a_refused_record_of_a_shard_that_is_given_up_is_left_to_the_next_owner() {
    let stage = Stage::new().await;
    let mut session = stage.session(1).await;
    let topic = session.topic();
    for shard in 0..16 {
        stage.insert(shard, &format!("K-{shard}")).await;
    }
    session.new_rows().await;
    assert!(session.under_way().len() > 8, "so many that some of them are given up");
    let mut other = Shards::connect(&stage.options).await.unwrap();
    session.tick().await.unwrap();
    for id in session.under_way() {
        session.refuse_with(id, RDKafkaErrorCode::NotEnoughReplicas);
    }
    session.tick().await.unwrap();
    assert_eq!(shared(&mut other).await, 8);
    let owned = session.shards.owned().to_vec();
    let partition = session.topics.get(topic).partition(0).unwrap();
    let lanes = partition.aside.as_ref().unwrap().lanes();
    let foreign: Vec<_> = lanes.filter(|(shard, _)| !owned.contains(shard)).collect();
    assert_eq!(foreign, []);
}
