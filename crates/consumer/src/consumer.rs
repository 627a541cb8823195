use std::sync::{Arc, OnceLock};
use std::time::Duration;

use kafka::rdkafka::error::KafkaError;
use kafka::{EnsureError, Settings, Topic};
use sqlx::PgPool;
use telemetry::instruments::Meter;
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::attempts::Attempts;
use crate::dead_letters::DeadLetters;
use crate::faults::Faults;
use crate::feed::Feed;
use crate::instruments::Instruments;
use crate::lane::Lane;
use crate::options::Options;
use crate::partitions::{Partitions, TopicPartition};
use crate::poller::{Context, Poller};
use crate::processor::Processor;
use crate::retention::{self, TooShort};
use crate::settler::Settler;
use crate::status::Status;
use crate::subscription::Subscription;

/// How long a consumer waits before it begins anew.
const BACKOFF: Duration = Duration::from_secs(1);

/// Runs a subscription: one instance of its consumer group.
pub struct Consumer {
    subscription: Arc<Subscription>,
    pool: PgPool,
    kafka: Settings,
    options: Options,
    instruments: Instruments,
    status: Status,
    faults: Faults,
    on_commit: Arc<dyn Fn() + Send + Sync>,
    /// Made when it begins to run, with the options that it has then.
    attempts: OnceLock<Arc<Attempts>>,
}

/// What ends one run.
#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error("the topics are not there")]
    Topics(#[from] EnsureError),
    #[error("nothing is consumed: duplicates could not be told")]
    Retention(#[from] TooShort),
    #[error("the Kafka client failed")]
    Kafka(#[from] KafkaError),
    #[error("the polling thread panicked")]
    Panicked(#[from] tokio::task::JoinError),
}

impl Consumer {
    /// `pool` is the service's own database, with the inbox migrated.
    pub fn new(subscription: Subscription, pool: PgPool, kafka: Settings, meter: &Meter) -> Self {
        Self {
            instruments: Instruments::new(meter, &subscription.group()),
            subscription: Arc::new(subscription),
            pool,
            kafka,
            options: Options::default(),
            status: Status::new(),
            faults: Faults::default(),
            on_commit: Arc::new(|| {}),
            attempts: OnceLock::new(),
        }
    }

    /// Other options than the default ones.
    #[must_use]
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// Called after each commit of an effect: to wake the relay of the service's outbox.
    #[must_use]
    pub fn on_commit(mut self, hook: impl Fn() + Send + Sync + 'static) -> Self {
        self.on_commit = Arc::new(hook);
        self
    }

    /// The consumer group, without the prefix.
    pub fn group(&self) -> String {
        self.subscription.group()
    }

    /// How it fares, while it runs.
    pub fn status(&self) -> Status {
        self.status.clone()
    }

    /// Where faults are made in it.
    pub fn faults(&self) -> Faults {
        self.faults.clone()
    }

    /// Another way in, through the same inbox to the same handlers. With the options and the hook that it has now.
    pub fn feed(&self) -> Feed {
        Feed::new(self.processor())
    }

    /// Runs until `shutdown`. Loss of Kafka or of the database is waited out.
    pub async fn run(self, shutdown: CancellationToken) {
        while !shutdown.is_cancelled() {
            match self.run_once(&shutdown).await {
                Ok(true) => {
                    tracing::info!(group = self.group(), "the consumer drained and left its group");
                }
                Ok(false) => tracing::warn!(
                    group = self.group(),
                    "the consumer left its group while handlers still ran; their messages will come again"
                ),
                Err(error) => {
                    let _halted =
                        matches!(error, RunError::Retention(_)).then(|| self.status.halt());
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        group = self.group(),
                        "the consumer begins anew"
                    );
                    tokio::select! {
                        () = sleep(BACKOFF) => {}
                        () = shutdown.cancelled() => {}
                    }
                }
            }
        }
        self.status.stop();
    }

    /// From joining the group to leaving it. False: something still ran at the end.
    async fn run_once(&self, shutdown: &CancellationToken) -> Result<bool, RunError> {
        let group = self.group();
        let mut topics: Vec<_> = self.subscription.event_types().map(Topic::event).collect();
        let own = [Topic::retry(&group), Topic::dead_letters(&group)];
        topics.extend(own);
        tokio::select! {
            ensured = kafka::ensure(&self.kafka, &topics) => ensured?,
            () = shutdown.cancelled() => return Ok(true),
        }
        topics.pop(); // Nobody consumes the dead letters.
        let names: Vec<_> = topics.iter().map(|topic| self.kafka.prefixed(&topic.name)).collect();
        tokio::select! {
            checked = retention::check(&self.options, &self.kafka, &names) => checked?,
            () = shutdown.cancelled() => return Ok(true),
        }

        let run = shutdown.child_token();
        // However this ends, also by being dropped: the polling thread must not outlive it.
        let _ends = run.clone().drop_guard();
        let partitions = Arc::new(Partitions::default());
        let settler = Arc::new(self.settler(&group, Arc::clone(&partitions), run.clone())?);
        let tasks = TaskTracker::new();
        let lanes = (0..self.options.lanes).map(|_| {
            let (lane, queue) = mpsc::unbounded_channel();
            tasks.spawn(Lane::new(Arc::clone(&settler), queue).run());
            lane
        });
        let lanes = lanes.collect();
        let (kafka, options, instruments) =
            (self.kafka.clone(), self.options.clone(), self.instruments.clone());
        let (pool, pruned) = (self.pool.clone(), self.options.clone());
        tasks.spawn(retention::prune(pool, group.clone(), pruned, run.clone()));
        let (left, leaving) = mpsc::unbounded_channel();
        tasks.spawn(leave(Arc::clone(&settler.attempts), leaving));
        let context = Context {
            partitions,
            left,
            drain_timeout: self.options.drain_timeout,
            instruments: self.instruments.clone(),
            kafka: self.kafka.clone(),
        };
        let until = run.clone();
        // The client is made, used and dropped on one thread: dropping it blocks.
        let polling = tokio::task::spawn_blocking(move || {
            Poller::new(&kafka, &group, &names, context, lanes, options, instruments)?.run(&until)
        });
        let ended = polling.await;
        run.cancel();
        tasks.close();
        let ended_well = tokio::time::timeout(self.options.drain_timeout, tasks.wait()).await;
        let drained = ended??;
        if drained && ended_well.is_ok() {
            let left =
                tokio::time::timeout(self.options.drain_timeout, settler.attempts.left_all());
            if !matches!(left.await, Ok(Ok(()))) {
                tracing::warn!(
                    "the next instance will be cautious: it is not noted that this one ended well"
                );
            }
        }
        Ok(drained)
    }

    fn processor(&self) -> Processor {
        Processor {
            subscription: Arc::clone(&self.subscription),
            group: self.group(),
            pool: self.pool.clone(),
            kafka: self.kafka.clone(),
            options: self.options.clone(),
            instruments: self.instruments.clone(),
            faults: self.faults.clone(),
            on_commit: Arc::clone(&self.on_commit),
        }
    }

    fn settler(
        &self,
        group: &str,
        partitions: Arc<Partitions>,
        shutdown: CancellationToken,
    ) -> Result<Settler, KafkaError> {
        let dead_letters = DeadLetters::new(&self.kafka, group, self.status.clone())?;
        let attempts = Arc::clone(self.attempts.get_or_init(|| {
            // What a partition may have under way at once, and what one poll may bring on top.
            let caution = self.options.max_queued * 2;
            Arc::new(Attempts::new(self.pool.clone(), group.to_owned(), caution))
        }));
        Ok(Settler {
            processor: self.processor(),
            dead_letters,
            attempts,
            partitions,
            status: self.status.clone(),
            shutdown,
        })
    }
}

/// Notes which partitions were given up in good order.
async fn leave(attempts: Arc<Attempts>, mut leaving: UnboundedReceiver<Vec<TopicPartition>>) {
    while let Some(partitions) = leaving.recv().await {
        if let Err(error) = attempts.left(&partitions).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(
                error,
                "the next instance will be cautious: it is not noted that this one left"
            );
        }
    }
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer").field("subscription", &self.subscription).finish_non_exhaustive()
    }
}
