use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use kafka::{Settings, TopicPolicy};
use sqlx::PgPool;
use telemetry::FlowSteps;
use telemetry::instruments::Meter;
use tokio::sync::Notify;

use crate::attempt::{Attempts, Commits};
use crate::faults::Faults;
use crate::feed::Feed;
use crate::history::Histories;
use crate::instruments::Instruments;
use crate::letters::Letters;
use crate::memory::{MemoryBudget, Share};
use crate::options::Options;
use crate::status::Status;
use crate::subscription::Subscription;
use crate::suspects::Suspects;

/// Runs a subscription: one instance of its consumer group.
///
/// ```no_run
/// # use consumer::Subscription;
/// # use telemetry::instruments::Meter;
/// # async fn example(subscription: Subscription, pool: sqlx::PgPool, meter: Meter) {
/// use consumer::{Consumer, Options};
/// use tokio_util::sync::CancellationToken;
///
/// let kafka = kafka::Settings::new("localhost:9092", "");
/// let consumer = Consumer::new(subscription, pool, kafka, &meter)
///     .options(Options { lanes: 2, ..Options::default() });
/// let (status, shutdown) = (consumer.status(), CancellationToken::new());
/// let running = tokio::spawn(consumer.run(shutdown.clone()));
/// println!("{}", status.state()); // running, or what it waits for
/// shutdown.cancel(); // drains what runs, and stores offsets
/// running.await.unwrap();
/// # }
/// ```
pub struct Consumer {
    pub(crate) subscription: Arc<Subscription>,
    pub(crate) pool: PgPool,
    /// For the probe of the database and for pruning.
    pub(crate) housekeeping: PgPool,
    pub(crate) kafka: Settings,
    pub(crate) topic_policy: TopicPolicy,
    pub(crate) options: Options,
    pub(crate) memory: Arc<Share>,
    suspects: Suspects,
    pub(crate) instruments: Instruments,
    pub(crate) status: Status,
    pub(crate) steps: FlowSteps,
    /// Wakes the tasks that copy letters and run replays.
    pub(crate) buried: Arc<Notify>,
    pub(crate) replay_requested: Arc<Notify>,
    faults: Faults,
    commits: Commits,
    on_commit: Arc<dyn Fn() + Send + Sync>,
    /// Created when the consumer starts to run, with its final options.
    histories: OnceLock<Arc<Histories>>,
}

impl Consumer {
    /// Creates a consumer. `pool` is the service's own database, with the inbox migrated.
    pub fn new(subscription: Subscription, pool: PgPool, kafka: Settings, meter: &Meter) -> Self {
        Self {
            instruments: Instruments::new(meter, &subscription.group()),
            subscription: Arc::new(subscription),
            housekeeping: pool.clone(),
            pool,
            kafka,
            topic_policy: TopicPolicy::default(),
            options: Options::default(),
            memory: Arc::new(MemoryBudget::default().join()),
            suspects: Suspects::default(),
            status: Status::default(),
            steps: FlowSteps::off(),
            buried: Arc::default(),
            replay_requested: Arc::default(),
            faults: Faults::default(),
            commits: Commits::default(),
            on_commit: Arc::new(|| {}),
            histories: OnceLock::new(),
        }
    }

    /// Sets other options than the default ones.
    #[must_use]
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// Sets how missing topics are handled. By default, those that the subscription owns are
    /// created.
    #[must_use]
    pub fn topic_policy(mut self, policy: TopicPolicy) -> Self {
        self.topic_policy = policy;
        self
    }

    /// Sets the memory budget to share with the other subscriptions of the process. By default the
    /// consumer has its own.
    #[must_use]
    pub fn memory(mut self, budget: &MemoryBudget) -> Self {
        self.memory = Arc::new(budget.join());
        self
    }

    /// Shares the suspects of a crash with the other subscriptions of the process, so that none of
    /// them blames its messages for a crash that a message of another one causes. By default the
    /// consumer has its own.
    #[must_use]
    pub fn suspects(mut self, suspects: &Suspects) -> Self {
        self.suspects = suspects.clone();
        self
    }

    /// Sets a pool of the same database for everything except handlers: pruning, and the probe of
    /// the database. Without it, a pool exhausted by handlers looks like an unavailable database.
    #[must_use]
    pub fn housekeeping(mut self, pool: PgPool) -> Self {
        self.housekeeping = pool;
        self
    }

    /// Sets a hook that is called after each commit of an effect, for example to wake the relay of
    /// the service's outbox.
    #[must_use]
    pub fn on_commit(mut self, hook: impl Fn() + Send + Sync + 'static) -> Self {
        self.on_commit = Arc::new(hook);
        self
    }

    /// Records each message and each replayed dead letter as a step of its flow.
    #[must_use]
    pub fn flow_steps(mut self, steps: FlowSteps) -> Self {
        self.steps = steps;
        self
    }

    /// Returns the consumer group, without the prefix.
    pub fn group(&self) -> String {
        self.subscription.group()
    }

    /// Returns the handled event types.
    pub fn event_types(&self) -> BTreeSet<&'static str> {
        self.subscription.event_types()
    }

    /// Returns the topics of the subscription, without the prefix.
    pub fn topics(&self) -> BTreeSet<&'static str> {
        self.subscription.topics()
    }

    /// Returns a handle to the consumer's state while it runs.
    pub fn status(&self) -> Status {
        self.status.clone()
    }

    /// Returns the switch that injects faults.
    pub fn faults(&self) -> Faults {
        self.faults.clone()
    }

    /// Returns a feed that passes events from requests through the same inbox to the same handlers,
    /// with the current options and hook.
    pub fn feed(&self) -> Feed {
        Feed::new(self.attempts())
    }

    /// Returns a handle to the subscription's dead letters.
    pub fn letters(&self) -> Letters {
        Letters::new(
            self.housekeeping.clone(),
            Arc::clone(&self.subscription),
            self.kafka.clone(),
            Arc::clone(&self.replay_requested),
        )
    }

    pub(crate) fn attempts(&self) -> Attempts {
        Attempts {
            subscription: Arc::clone(&self.subscription),
            group: self.group(),
            pool: self.pool.clone(),
            housekeeping: self.housekeeping.clone(),
            handler_timeout: self.options.handler_timeout,
            instruments: self.instruments.clone(),
            faults: self.faults.clone(),
            commits: self.commits.clone(),
            steps: self.steps.clone(),
            on_commit: Arc::clone(&self.on_commit),
        }
    }

    pub(crate) fn histories(&self) -> Arc<Histories> {
        Arc::clone(self.histories.get_or_init(|| {
            // The messages that a partition may have in progress, plus those of one poll.
            let caution = self.options.max_queued * 2;
            let suspects = self.suspects.clone();
            Arc::new(Histories::new(self.pool.clone(), self.group(), caution, suspects))
        }))
    }
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer").field("subscription", &self.subscription).finish_non_exhaustive()
    }
}
