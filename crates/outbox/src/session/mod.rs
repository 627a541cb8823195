//! One session of a relay: a connection to Postgres that holds the locks of its shards, and a
//! producer. When the connection is lost, the records in flight are purged with the producer.

mod admission;
mod asking;
mod completing;
mod deleting;
mod folding;
mod lanes;
#[cfg(test)]
mod late;
#[cfg(test)]
mod model;
mod reading;
mod retrying;
mod searching;
#[cfg(test)]
mod slow_search;
#[cfg(test)]
mod standstill;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka::rdkafka::error::KafkaError;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinHandle;
use tokio::time::{Instant as TokioInstant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::cluster::{Answers, Limits};
use crate::horizon::{Horizon, Restarted};
use crate::in_flight::InFlight;
use crate::instruments::Instruments;
use crate::pauses::PauseReporter;
use crate::relay::RelayWaker;
use crate::sender::{Completion, Sender};
use crate::shards::{ShardLoad, Shards};
use crate::topic::{TopicId, Topics};

pub(crate) use searching::Searcher;

/// Statement timeout in this process, a second longer than the server's: a connection can be lost
/// silently.
const STATEMENT: Duration = Duration::from_secs(11);
/// SQLSTATE of a lock timeout.
const LOCK_NOT_AVAILABLE: &str = "55P03";
/// Polling interval. Polling finds rows of other instances, and rows whose writer died after its
/// commit.
const POLL: Duration = Duration::from_millis(100);
/// Minimum interval of reads while records are in flight, so that each read returns more than one
/// row.
const PACE: Duration = Duration::from_millis(2);
/// How long published rows may wait for a read that also deletes them.
const FLUSH: Duration = Duration::from_millis(5);
/// Minimum free bytes for a read.
const WORTHWHILE: usize = 64 * 1024;
/// How long the records in flight may take at shutdown.
const DRAIN: Duration = Duration::from_secs(2);
/// A new session first determines the current pauses before it reports the end of earlier ones, and
/// a new producer whether it may write before the loss of the former one is over.
const SETTLES: Duration = Duration::from_secs(5);

/// Reason of the end of a session.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    #[error("the relay's session in the database failed")]
    Database(#[from] sqlx::Error),
    #[error(
        "a pooler shares the sessions of Postgres (PgBouncer with pool_mode=transaction or statement)"
    )]
    SharedSessions,
    #[error("newly taken shards can't be searched")]
    Search(#[source] sqlx::Error),
    #[error("published rows can't be deleted: {0}")]
    RowsWouldStay(String),
    #[error("no producer can be created")]
    NoProducer(#[from] KafkaError),
    /// librdkafka's reason, after which the producer sends nothing.
    #[error("the producer failed: {0}")]
    Producer(String),
    #[error(transparent)]
    Restarted(#[from] Restarted),
}

/// Progress of a session.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Reached {
    Nothing,
    /// Records were acknowledged and no row was deleted: the next session publishes the same rows
    /// again.
    Acknowledged,
    /// Published rows were deleted.
    Deleted,
}

/// Rows that a statement reads.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Scope {
    /// New rows of all topics.
    New,
    /// Rows left aside for a topic, a partition, or a key.
    Topic(TopicId),
    Partition(TopicId, i32),
    Key(TopicId, Arc<str>),
}

pub(crate) struct Session<'a> {
    started: Instant,
    shards: Shards,
    searcher: Searcher,
    sender: Sender,
    completed: UnboundedReceiver<Completion>,
    instruments: &'a Instruments,
    reporter: &'a mut PauseReporter,
    horizon: Horizon,
    topics: Topics,
    flights: InFlight,
    /// Published rows to delete.
    published: Vec<i64>,
    published_since: Option<Instant>,
    /// Published rows that could not be deleted, because another session has locked them.
    locked: Vec<i64>,
    /// Acknowledged records to count.
    sent: BTreeMap<TopicId, u64>,
    /// Every row of the owned shards up to this id is gone, in flight or left aside. Never above
    /// the horizon.
    after: i64,
    /// Ids above `after` that were left aside, with their topics.
    passed: BTreeMap<i64, TopicId>,
    /// The highest id that was read.
    seen: i64,
    /// `true` if there may be unread rows.
    has_new: bool,
    /// Average size of the new rows read last, in bytes.
    row_size: usize,
    last_new: Instant,
    next_poll: Instant,
    next_lanes: Instant,
    rotation: usize,
    asking: Option<JoinHandle<Answers>>,
    asking_limits: Option<JoinHandle<Limits>>,
    next_ask: Instant,
    cluster_is_unavailable: bool,
    reached: Reached,
}

impl<'a> Session<'a> {
    pub(crate) fn new(
        shards: Shards,
        searcher: Searcher,
        sender: Sender,
        completed: UnboundedReceiver<Completion>,
        instruments: &'a Instruments,
        reporter: &'a mut PauseReporter,
    ) -> Self {
        let now = Instant::now();
        let topics = Topics::new(sender.settings().clone());
        Self {
            started: now,
            shards,
            searcher,
            sender,
            completed,
            instruments,
            reporter,
            horizon: Horizon::new(),
            topics,
            flights: InFlight::default(),
            published: Vec::new(),
            published_since: None,
            locked: Vec::new(),
            sent: BTreeMap::new(),
            after: 0,
            passed: BTreeMap::new(),
            seen: 0,
            has_new: true,
            row_size: 0,
            last_new: now,
            next_poll: now,
            next_lanes: now,
            rotation: 0,
            asking: None,
            asking_limits: None,
            next_ask: now,
            cluster_is_unavailable: false,
            reached: Reached::Nothing,
        }
    }

    /// Publishes until `shutdown` is cancelled, then completes the records in flight. Calls
    /// `on_work` once it has deleted published rows, or has nothing to publish. After a
    /// `lost_producer`, having nothing to publish counts only once this producer can't fail alike.
    pub(crate) async fn run(
        &mut self,
        wake: &RelayWaker,
        shutdown: &CancellationToken,
        lost_producer: bool,
        on_work: impl FnOnce(),
    ) -> Result<(), SessionError> {
        let mut on_work = Some(on_work);
        self.find_horizon().await?;
        while !shutdown.is_cancelled() {
            self.complete_all().await?;
            self.take_search().await?;
            let now = Instant::now();
            if now >= self.shards.next_tick() {
                self.tick().await?;
            }
            if now >= self.horizon.next_look(self.is_busy()) {
                within(self.horizon.look(self.shards.session())).await??;
            }
            self.ask_cluster(now);
            self.read(now).await?;
            if self.published_since.is_some_and(|since| since.elapsed() >= FLUSH) {
                self.delete().await?;
            }
            if self.works(lost_producer)
                && let Some(on_work) = on_work.take()
            {
                on_work();
            }
            self.wait(wake, shutdown).await;
        }
        self.drain().await
    }

    /// Closes the session, so that other relays can take the shards at once.
    pub(crate) async fn release(self) {
        self.shards.release().await;
    }

    /// Returns the progress of this session.
    pub(crate) fn reached(&self) -> Reached {
        self.reached
    }

    /// Purges all records in flight.
    pub(crate) fn purge(&self) {
        self.sender.purge();
    }

    fn works(&self, lost_producer: bool) -> bool {
        let has_read = self.shards.owned().is_empty() || !self.has_new;
        let is_idle = self.flights.is_empty() && self.published.is_empty();
        let has_nothing = self.shards.are_settled() && has_read && is_idle;
        self.reached == Reached::Deleted
            || has_nothing && !self.awaits_topics() && !(lost_producer && self.awaits_producer())
    }

    /// Returns whether rows wait for the cluster's answer about their topic, after which they may
    /// be sent.
    fn awaits_topics(&self) -> bool {
        !self.cluster_is_unavailable
            && self.topics.iter().any(|(_, topic)| {
                topic.confirmed.is_none() && topic.pause.is_none() && topic.has_aside()
            })
    }

    /// Returns whether the producer may still be refused: it asks for its id in the background, and
    /// a missing right is fatal only then.
    fn awaits_producer(&self) -> bool {
        let is_new = self.started.elapsed() < SETTLES;
        self.reached == Reached::Nothing && (is_new || self.cluster_is_unavailable)
    }

    fn is_busy(&self) -> bool {
        self.seen > self.horizon.proven()
    }

    /// Runs once a second: sends the heartbeat, balances the shards, and reports pauses.
    async fn tick(&mut self) -> Result<(), SessionError> {
        // The next owner of a shard must not read published rows.
        self.delete().await?;
        self.delete_locked().await?;
        let (owned, held) = (self.shards.owned().to_vec(), self.shards.held());
        let (flights, stuck) = (&self.flights, self.stuck_shards());
        let load = |shard| match flights.of_shard(shard) {
            0 => ShardLoad::Idle,
            _ if stuck.contains(&shard) => ShardLoad::Stuck,
            _ => ShardLoad::Draining,
        };
        let kept = within(self.shards.share(self.after, load)).await?;
        if *self.shards.owned() != owned {
            self.report_shards();
        }
        if self.shards.held() != held {
            self.forget_lanes();
        }
        for kept in kept {
            self.go_back(kept.shard, kept.after);
        }
        self.begin_search().await?;
        let is_settled = self.started.elapsed() > SETTLES;
        self.reporter.report(&self.topics, &self.flights, self.instruments, is_settled);
        Ok(())
    }

    /// Returns the shards with a record in flight to a partition that acknowledges nothing.
    fn stuck_shards(&self) -> BTreeSet<i16> {
        let now = Instant::now();
        let is_stuck = |topic, number| {
            let under_way = self.flights.load(topic, number).records;
            let partition = self.topics.get(topic).partition(number);
            partition.is_none_or(|partition| partition.is_closed(now, under_way))
        };
        let stuck = self.flights.iter().filter(|record| is_stuck(record.topic, record.partition));
        stuck.map(|record| record.shard).collect()
    }

    fn report_shards(&self) {
        let owned = self.shards.owned();
        self.instruments.shards(owned.len());
        tracing::info!(shards = ?owned, "relay shards assigned");
    }

    /// Waits for the next event or deadline.
    async fn wait(&mut self, wake: &RelayWaker, shutdown: &CancellationToken) {
        let now = Instant::now();
        let deadline = self.next_deadline(now);
        // Events that are checked only here come first; under load the deadline and completions are
        // always ready.
        tokio::select! {
            biased;
            limits = finished(&mut self.asking_limits) => self.take_limits(&limits),
            answers = finished(&mut self.asking) => self.take_answers(&answers),
            () = self.searcher.wait() => {}
            () = wake.notified() => self.has_new = true,
            completion = self.completed.recv() => if let Some(completion) = completion {
                self.complete(completion);
            },
            () = sleep_until(TokioInstant::from_std(deadline)) => {}
            () = shutdown.cancelled() => {}
        }
    }

    fn next_deadline(&self, now: Instant) -> Instant {
        let mut deadline = self.shards.next_tick().min(self.horizon.next_look(self.is_busy()));
        if let Some(since) = self.published_since {
            deadline = deadline.min(since + FLUSH);
        }
        if self.can_read() {
            deadline = deadline.min(self.next_new(now)).min(self.next_poll);
            if self.has_lanes(now) {
                deadline = deadline.min(self.next_lanes);
            }
        }
        if self.asking.is_none() && self.has_questions(now) {
            deadline = deadline.min(self.next_ask);
        }
        deadline
    }

    async fn drain(&mut self) -> Result<(), SessionError> {
        let deadline = TokioInstant::now() + DRAIN;
        while !self.flights.is_empty()
            && let Ok(Some(completion)) = timeout_at(deadline, self.completed.recv()).await
        {
            self.complete(completion);
        }
        self.delete().await?;
        self.delete_locked().await
    }
}

/// Waits for the end of a task, if any.
async fn finished<T: Default>(task: &mut Option<JoinHandle<T>>) -> T {
    match task {
        // The task does not panic.
        Some(running) => {
            let finished = running.await.unwrap_or_default();
            *task = None;
            finished
        }
        None => std::future::pending().await,
    }
}

async fn within<T>(statement: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    pg::within(STATEMENT, statement).await
}

/// Returns `None` if a statement timed out waiting for a lock.
fn unless_locked<T>(result: sqlx::Result<T>) -> Result<Option<T>, SessionError> {
    match result {
        Err(sqlx::Error::Database(error))
            if error.code().as_deref() == Some(LOCK_NOT_AVAILABLE) =>
        {
            Ok(None)
        }
        result => Ok(Some(result?)),
    }
}
