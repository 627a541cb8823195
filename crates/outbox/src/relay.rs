use std::sync::Arc;
use std::time::Duration;

use kafka::Settings;
use sqlx::postgres::PgConnectOptions;
use telemetry::FlowSteps;
use telemetry::instruments::Meter;
use tokio::sync::{Notify, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::depth::DepthGauge;
use crate::instruments::Instruments;
use crate::pauses::PauseReporter;
use crate::sender::Sender;
use crate::session::{Searcher, Session, SessionError};
use crate::shards::Shards;
use crate::status::{PausedTopic, RelayStatus};

/// Wait of a relay before it opens a new session.
const BACKOFF: Duration = Duration::from_secs(1);
/// Time limit for connecting.
const CONNECT: Duration = Duration::from_secs(10);

/// Wakes the relay of this process after a commit.
#[derive(Clone, Debug, Default)]
pub struct RelayWaker(Arc<Notify>);

impl RelayWaker {
    /// Wakes the relay. Call it after a commit; it is cheap, and several calls have the effect of
    /// one.
    pub fn wake(&self) {
        self.0.notify_one();
    }

    pub(crate) async fn notified(&self) {
        self.0.notified().await;
    }
}

/// Publishes the outbox of one database. Every instance of a service runs one, and they share the
/// shards.
///
/// ```no_run
/// # use telemetry::instruments::Meter;
/// # async fn example(database: sqlx::postgres::PgConnectOptions, meter: Meter) {
/// use outbox::{Relay, RelayWaker};
/// use tokio_util::sync::CancellationToken;
///
/// let kafka = kafka::Settings::new("localhost:9092", "");
/// let (wake, shutdown) = (RelayWaker::default(), CancellationToken::new());
/// let relay = Relay::new(database, kafka, wake.clone(), &meter);
/// let status = relay.status();
/// let running = tokio::spawn(relay.run(shutdown.clone()));
/// wake.wake(); // after each commit that wrote to the outbox
/// for topic in status.paused() {
///     println!("{topic}"); // with Kafka's reason
/// }
/// shutdown.cancel(); // completes the records in flight, and releases the shards
/// running.await.unwrap();
/// # }
/// ```
#[derive(Debug)]
pub struct Relay {
    database: PgConnectOptions,
    kafka: Settings,
    wake: RelayWaker,
    instruments: Instruments,
    steps: FlowSteps,
    status: watch::Sender<Vec<PausedTopic>>,
}

impl Relay {
    /// Creates a relay. `database` is the service's migrated database; `wake` is the waker that its
    /// writers use.
    pub fn new(
        database: PgConnectOptions,
        kafka: Settings,
        wake: RelayWaker,
        meter: &Meter,
    ) -> Self {
        let instruments = Instruments::new(meter);
        let status = watch::Sender::default();
        Self { database, kafka, wake, instruments, steps: FlowSteps::off(), status }
    }

    /// Records the wait of each event, and its publication, as steps of its flow.
    #[must_use]
    pub fn flow_steps(mut self, steps: FlowSteps) -> Self {
        self.steps = steps;
        self
    }

    /// Returns a handle to the topics that this relay can't publish to at present. The list is
    /// empty once the relay has ended.
    pub fn status(&self) -> RelayStatus {
        RelayStatus(self.status.subscribe())
    }

    /// Runs until `shutdown` is cancelled. Waits while the database, Kafka or the shards are
    /// unavailable. At shutdown it waits up to 2 s for the records in flight, deletes the rows of
    /// the acknowledged ones, and releases the shards.
    ///
    /// Dropping the future has the effect of a killed process: no row is lost, but the relay that
    /// takes the shards may publish records again whose rows were not deleted yet.
    pub async fn run(self, shutdown: CancellationToken) {
        let depth = DepthGauge { database: &self.database, instruments: &self.instruments };
        tokio::join!(self.publish(&shutdown), depth.run(&shutdown));
    }

    async fn publish(&self, shutdown: &CancellationToken) {
        let mut reporter = PauseReporter::new(self.status.clone());
        let mut is_failing = false;
        while !shutdown.is_cancelled() {
            let Err(error) = self.session(&mut reporter, shutdown, &mut is_failing).await else {
                return;
            };
            log_loss(&error, std::mem::replace(&mut is_failing, true));
            shutdown.run_until_cancelled(sleep(BACKOFF)).await;
        }
    }

    async fn session(
        &self,
        reporter: &mut PauseReporter,
        shutdown: &CancellationToken,
        is_failing: &mut bool,
    ) -> Result<(), SessionError> {
        let shards = pg::within(CONNECT, Shards::connect(&self.database)).await?;
        let searcher = Searcher::new(self.database.clone());
        let (sender, completed) = Sender::new(&self.kafka, self.steps.clone())?;
        if std::mem::take(is_failing) {
            tracing::info!("relay session restored");
        }
        let mut session =
            Session::new(shards, searcher, sender, completed, &self.instruments, reporter);
        let ended = session.run(&self.wake, shutdown).await;
        session.purge();
        ended?;
        session.release().await;
        Ok(())
    }
}

/// Logs the loss of a session once, and not every failed attempt to open another.
fn log_loss(error: &SessionError, is_failing: bool) {
    let error = error as &dyn std::error::Error;
    if is_failing {
        tracing::debug!(error, "relay has no session, retrying");
    } else {
        tracing::warn!(error, "relay lost its session, events wait in the outbox");
    }
}
