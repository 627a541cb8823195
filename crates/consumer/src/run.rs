//! Runs of a consumer, each from joining the group to leaving it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kafka::rdkafka::error::{KafkaError, KafkaResult};
use kafka::{TopicPolicy, TopicsError};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::consumer::Consumer;
use crate::database::{Database, ProbeResult};
use crate::history::Histories;
use crate::intake::{Context, Intake, IntakeParameters};
use crate::keeper::{Keeper, Orders};
use crate::lane::Lane;
use crate::letters::{Copies, Graveyard, Replayer};
use crate::message::Queued;
use crate::partitions::{Partitions, TopicPartition};
use crate::pipeline::Pipeline;
use crate::place::Places;
use crate::probe;
use crate::reader::Reader;
use crate::retention::{self, RetentionCheckError};
use crate::status::{Status, StatusGuard};
use crate::topics::{SubscribedTopics, TopicCheck};
use crate::verdict::Judge;

/// Source of the problem in the status.
const FOUND_BY: &str = "run";
/// How long a consumer waits before it starts again.
const BACKOFF: Duration = Duration::from_secs(1);

/// How long a client may take to close, in addition to the wait for running handlers.
const CLOSED_WITHIN: Duration = Duration::from_secs(10);

/// How long a subscription keeps read messages while the database is unavailable.
const WAITED_FOR: Duration = Duration::from_secs(20);

/// Reason of the end of a run.
#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error(transparent)]
    Topics(#[from] TopicsError),
    #[error("none of its topics can be read")]
    NoTopics,
    #[error("the check of the inbox's retention failed")]
    Retention(#[from] RetentionCheckError),
    #[error("the Kafka client failed")]
    Kafka(#[from] KafkaError),
    #[error("the polling thread could not be started")]
    NoThread(#[source] std::io::Error),
    #[error("a lane panicked")]
    LanePanicked,
    #[error("the polling thread panicked")]
    Panicked,
}

impl Consumer {
    /// Runs until `shutdown` is cancelled. Waits while Kafka or the database is unavailable; with
    /// [options](crate::Options::check) that can't work it only waits, as
    /// [`State::Halted`](crate::State::Halted). At
    /// shutdown no further attempt begins. The consumer waits for running ones up to
    /// [`Options::drain_timeout`](crate::Options::drain_timeout), stores the offsets and leaves its
    /// group.
    ///
    /// Dropping the future starts the same shutdown in the background, on the runtime and on the
    /// polling thread, but interrupts replays and never reports
    /// [`State::Stopped`](crate::State::Stopped). If the runtime ends first, running transactions
    /// roll back. Messages without a stored offset are redelivered.
    pub async fn run(self, shutdown: CancellationToken) {
        if let Err(error) = self.options.check(Duration::MAX) {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                group = self.group(),
                "nothing is consumed"
            );
            let _halted = self.status.halt(error.to_string());
            shutdown.cancelled().await;
            self.status.stop();
            return;
        }
        let (keeper, ended) = (Keeper::new(&self), CancellationToken::new());
        let orders = keeper.orders();
        let copies = Copies::new(&self, Arc::clone(&self.buried), shutdown.clone());
        let replayer = Replayer::new(&self, Arc::clone(&self.replay_requested), shutdown.clone());
        let working = async {
            let consuming = restart_until_shutdown(&self, &orders, shutdown);
            tokio::join!(consuming, copies.run(), replayer.run());
            ended.cancel();
        };
        tokio::join!(working, keeper.run(ended.clone()));
        self.status.stop();
    }
}

/// Starts run after run, with a wait of a second after a failure.
async fn restart_until_shutdown(consumer: &Consumer, orders: &Orders, shutdown: CancellationToken) {
    let group = consumer.group();
    let mut halted = None;
    while !shutdown.is_cancelled() {
        let error = match once(consumer, orders, &mut halted, &shutdown).await {
            Ok(true) => {
                tracing::info!(group, "consumer drained and left its group");
                continue;
            }
            Ok(false) => {
                tracing::warn!(
                    group,
                    "consumer left its group with handlers running, their messages will be redelivered"
                );
                continue;
            }
            Err(error) => error,
        };
        // Held until the next run, or the status would be healthy between two runs.
        let problem = match &error {
            RunError::Retention(too_short @ RetentionCheckError::TooShort { .. }) => {
                halted = Some(consumer.status.halt(too_short.to_string()));
                None
            }
            // `Topics` reports and logs missing topics.
            RunError::NoTopics => None,
            error => Some(format!("it can't start: {error}")),
        };
        if problem.is_some() || halted.is_some() {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                group,
                "consumer failed, restarting"
            );
        }
        consumer.status.set_problems(FOUND_BY, problem.into_iter().collect());
        shutdown.run_until_cancelled(sleep(BACKOFF)).await;
    }
}

/// Runs from joining the group to leaving it. Returns `false` if a handler still ran at the end.
async fn once(
    consumer: &Consumer,
    orders: &Orders,
    halted: &mut Option<StatusGuard>,
    shutdown: &CancellationToken,
) -> Result<bool, RunError> {
    // After an outage of the database the consumer waits here, holding no messages.
    if database(consumer, shutdown.clone()).probe(Instant::now()).await == ProbeResult::Shutdown {
        return Ok(true);
    }
    if shutdown.run_until_cancelled(orders.known()).await.is_none() {
        return Ok(true);
    }
    let topics = SubscribedTopics::new(
        &consumer.subscription,
        consumer.kafka.clone(),
        consumer.topic_policy,
        consumer.status.clone(),
    );
    let Some(prepared) = shutdown.run_until_cancelled(prepare(consumer, &topics)).await else {
        return Ok(true);
    };
    let (found, retention_known) = prepared?;
    *halted = None;

    let run = shutdown.child_token();
    // The polling thread must not outlive this function, even if its future is dropped.
    let _ends = run.clone().drop_guard();
    let partitions = Arc::new(Partitions::default());
    let pipeline = Arc::new(pipeline(consumer, orders, Arc::clone(&partitions), run.clone()));
    let tasks = TaskTracker::new();
    let panicked = Arc::default();
    let lanes = spawn_lanes(consumer.options.lanes, &pipeline, &run, &tasks, &panicked);
    consumer.status.set_problems(FOUND_BY, Vec::new());
    let (group, options) = (consumer.group(), consumer.options.clone());
    let readable = found.readable.clone();
    watch(consumer, topics, found, retention_known, &run, &tasks);
    let (left, leaving) = mpsc::unbounded_channel();
    tasks.spawn(leave(consumer.histories(), leaving));
    let context = Context {
        partitions,
        left,
        drain_timeout: options.drain_timeout,
        instruments: consumer.instruments.clone(),
        kafka: consumer.kafka.clone(),
    };
    let (ask, scans) = mpsc::unbounded_channel();
    tasks.spawn(probe::probe_breakers(orders.clone(), pipeline, ask, run.clone()));
    let inlet = IntakeParameters {
        lanes,
        options,
        memory: Arc::clone(&consumer.memory),
        subscription: Arc::clone(&consumer.subscription),
        orders: orders.clone(),
        status: consumer.status.clone(),
        scans,
    };
    let until = run.clone();
    let polling = on_a_thread(move || Intake::new(&group, &readable, context, inlet)?.run(&until))?;
    let polled = closed(polling, &run, consumer).await;
    run.cancel();
    let drained = drained(consumer, polled?, &tasks).await;
    if panicked.load(Ordering::Relaxed) { Err(RunError::LanePanicked) } else { drained }
}

/// Creates, uses and drops the client on one thread, because dropping it blocks. The thread is not
/// the runtime's, which would wait for it at its end.
fn on_a_thread(
    poll: impl FnOnce() -> KafkaResult<bool> + Send + 'static,
) -> Result<oneshot::Receiver<KafkaResult<bool>>, RunError> {
    let (report, polling) = oneshot::channel();
    let thread = std::thread::Builder::new().name("consumer poll".into());
    // The receiver is gone if the run was dropped.
    thread.spawn(move || _ = report.send(poll())).map_err(RunError::NoThread)?;
    Ok(polling)
}

/// Waits until the client is closed, with a limit: closed during a rebalance, it can wait for an
/// internal thread that has ended. Then it is abandoned; it has left the group.
async fn closed(
    polling: oneshot::Receiver<KafkaResult<bool>>,
    run: &CancellationToken,
    consumer: &Consumer,
) -> Result<KafkaResult<bool>, RunError> {
    let hangs = async {
        run.cancelled().await;
        sleep(consumer.options.drain_timeout + CLOSED_WITHIN).await;
    };
    tokio::select! {
        polled = polling => polled.map_err(|_| RunError::Panicked),
        () = hangs => {
            tracing::error!(group = consumer.group(), "Kafka client not closed in time, abandoned");
            Ok(Ok(false))
        }
    }
}

/// Ends the run on drop, and records whether a panic was the reason.
struct EndsRun {
    run: CancellationToken,
    panicked: Arc<AtomicBool>,
}

impl Drop for EndsRun {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.panicked.store(true, Ordering::Relaxed);
        }
        self.run.cancel();
    }
}

fn spawn_lanes(
    count: usize,
    pipeline: &Arc<Pipeline>,
    run: &CancellationToken,
    tasks: &TaskTracker,
    panicked: &Arc<AtomicBool>,
) -> Vec<UnboundedSender<Queued>> {
    let spawn = |_| {
        let (lane, queue) = mpsc::unbounded_channel();
        // A lane that ends, even by a panic, ends the run, because its keys would wait for ever.
        let running = Lane::new(Arc::clone(pipeline), queue);
        let ends = EndsRun { run: run.clone(), panicked: Arc::clone(panicked) };
        tasks.spawn(async move {
            let _ends = ends;
            running.run().await;
        });
        lane
    };
    (0..count).map(spawn).collect()
}

/// Creates or checks the topics, and checks their retention against the inbox's.
async fn prepare(
    consumer: &Consumer,
    topics: &SubscribedTopics,
) -> Result<(TopicCheck, bool), RunError> {
    let found = topics.ensure().await?;
    if found.readable.is_empty() {
        return Err(RunError::NoTopics);
    }
    let retention_known = is_retention_known(consumer, &found.readable).await?;
    Ok((found, retention_known))
}

/// Spawns the background tasks of a run, such as pruning and checking the topics.
fn watch(
    consumer: &Consumer,
    topics: SubscribedTopics,
    found: TopicCheck,
    retention_known: bool,
    run: &CancellationToken,
    tasks: &TaskTracker,
) {
    let Consumer { housekeeping, kafka, options, status, .. } = consumer;
    let pruning =
        retention::prune(housekeeping.clone(), consumer.group(), options.clone(), run.clone());
    tasks.spawn(pruning);
    if !retention_known {
        let (options, kafka, status) = (options.clone(), kafka.clone(), status.clone());
        let readable = found.readable.clone();
        tasks.spawn(retention::until_known(options, kafka, readable, status, run.clone()));
    }
    tasks.spawn(give_up_after_waiting(status.clone(), consumer.group(), run.clone()));
    if consumer.topic_policy != TopicPolicy::Off {
        tasks.spawn(topics.recheck(found, run.clone()));
    }
}

/// Ends `run` after a long outage of the database, so that queued messages do not stay in memory.
/// The next run reads them again.
async fn give_up_after_waiting(status: Status, group: String, run: CancellationToken) {
    if run.run_until_cancelled(status.waited_for(WAITED_FOR)).await.is_some() {
        tracing::warn!(group, "database unavailable for long, leaving the consumer group");
        run.cancel();
    }
}

/// Returns `true` if the inbox keeps events longer than these topics, `false` if that is unknown.
/// Fails if it does not.
async fn is_retention_known(consumer: &Consumer, topics: &[String]) -> Result<bool, RunError> {
    let checked = retention::check(&consumer.options, &consumer.kafka, topics).await;
    let unknown = match checked {
        Ok(()) => Vec::new(),
        Err(unknown @ RetentionCheckError::Unknown(_)) => vec![unknown.to_string()],
        Err(error) => return Err(error.into()),
    };
    let is_known = unknown.is_empty();
    if consumer.status.set_problems(retention::FOUND_BY, unknown.clone()) {
        for problem in unknown {
            tracing::warn!(group = consumer.group(), problem, "topic retention unknown");
        }
    }
    Ok(is_known)
}

fn database(consumer: &Consumer, shutdown: CancellationToken) -> Database {
    let (pool, instance) =
        (consumer.housekeeping.clone(), consumer.histories().instance().to_owned());
    Database::new(pool, consumer.group(), instance, consumer.status.clone(), shutdown)
}

fn pipeline(
    consumer: &Consumer,
    orders: &Orders,
    partitions: Arc<Partitions>,
    shutdown: CancellationToken,
) -> Pipeline {
    let Consumer { subscription, pool, kafka, options, instruments, status, .. } = consumer;
    let histories = consumer.histories();
    let graveyard = Graveyard {
        pool: pool.clone(),
        group: consumer.group(),
        inbox_retention: options.inbox_retention,
        instruments: instruments.clone(),
        buried: Arc::clone(&consumer.buried),
    };
    Pipeline {
        reader: Reader::new(
            Arc::clone(subscription),
            Arc::clone(&histories),
            kafka.clone(),
            consumer.steps.clone(),
        ),
        judge: Judge::new(
            consumer.attempts(),
            Arc::clone(&histories),
            options.clone(),
            status.clone(),
        ),
        graveyard,
        database: database(consumer, shutdown.clone()),
        breakers: Arc::clone(&orders.breakers),
        places: Places::new(options.lanes),
        aside: Semaphore::new((options.lanes / 4).max(1)),
        aside_again: Semaphore::new((options.lanes / 4).max(1)),
        partitions,
        status: status.clone(),
        options: options.clone(),
        instruments: instruments.clone(),
        shutdown,
    }
}

/// Waits for the lanes, and records a clean shutdown of this instance.
async fn drained(
    consumer: &Consumer,
    polling: Result<bool, KafkaError>,
    tasks: &TaskTracker,
) -> Result<bool, RunError> {
    tasks.close();
    let limit = consumer.options.drain_timeout;
    let ended_well = timeout(limit, tasks.wait()).await.is_ok();
    let drained = polling?;
    if drained && ended_well {
        let left = timeout(limit, consumer.histories().left_all()).await;
        if !matches!(left, Ok(Ok(()))) {
            tracing::warn!(
                "clean shutdown not recorded, the next instance will mark messages before their attempts"
            );
        }
    }
    Ok(drained)
}

/// Records the partitions that were released cleanly.
async fn leave(histories: Arc<Histories>, mut leaving: UnboundedReceiver<Vec<TopicPartition>>) {
    while let Some(partitions) = leaving.recv().await {
        if let Err(error) = histories.left(&partitions).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(
                error,
                "release of partitions not recorded, the next instance will mark messages before their attempts"
            );
        }
    }
}
