use std::sync::Arc;
use std::time::Duration;

use kafka::Settings;
use sqlx::postgres::PgConnectOptions;
use telemetry::FlowSteps;
use telemetry::instruments::Meter;
use tokio::sync::{Notify, OnceCell, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::depth::DepthGauge;
use crate::instruments::Instruments;
use crate::pauses::PauseReporter;
use crate::reasons::LoggedReasons;
use crate::sender::Sender;
use crate::session::{Reached, Searcher, Session, SessionError};
use crate::shards::Shards;
use crate::status::{PausedTopic, RelayStatus};

/// Wait of a relay before it opens a new session.
const BACKOFF: Duration = Duration::from_secs(1);
/// Maximum wait of a relay whose sessions publish rows and can't delete them, or whose producer or
/// search fails.
const MAX_BACKOFF: Duration = Duration::from_mins(1);
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
    loss: watch::Sender<Option<String>>,
    /// Set once the database is known to keep sessions, and with them advisory locks.
    keeps_sessions: OnceCell<()>,
}

impl Relay {
    /// Creates a relay. `database` is the service's migrated database, not behind a pooler that
    /// shares sessions (see [`pg::keeps_sessions`]): there the relay publishes nothing, and its
    /// [`status`](Self::status) says so. `wake` is the waker that its writers use.
    pub fn new(
        database: PgConnectOptions,
        kafka: Settings,
        wake: RelayWaker,
        meter: &Meter,
    ) -> Self {
        let instruments = Instruments::new(meter);
        let (status, loss) = (watch::Sender::default(), watch::Sender::default());
        let (steps, keeps_sessions) = (FlowSteps::off(), OnceCell::new());
        Self { database, kafka, wake, instruments, steps, status, loss, keeps_sessions }
    }

    /// Records the wait of each event, and its publication, as steps of its flow.
    #[must_use]
    pub fn flow_steps(mut self, steps: FlowSteps) -> Self {
        self.steps = steps;
        self
    }

    /// Returns a handle to what this relay can't publish at present: nothing once it has ended.
    pub fn status(&self) -> RelayStatus {
        RelayStatus { paused: self.status.subscribe(), loss: self.loss.subscribe() }
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
        let mut losses = Losses::new(self.loss.clone());
        while !shutdown.is_cancelled() {
            let Err(error) = self.session(&mut reporter, shutdown, &mut losses).await else {
                return;
            };
            // Without a session it is unknown which pauses still apply.
            self.status.send_replace(Vec::new());
            losses.log(&error);
            shutdown.run_until_cancelled(sleep(losses.backoff)).await;
        }
    }

    async fn session(
        &self,
        reporter: &mut PauseReporter,
        shutdown: &CancellationToken,
        losses: &mut Losses,
    ) -> Result<(), SessionError> {
        self.keeps_sessions.get_or_try_init(|| self.check_sessions()).await?;
        // Before the relay joins, because others would leave shards to one that can't search them,
        // and before the session of the locks, which the server ends when it is silent.
        let searcher = pg::within(CONNECT, Searcher::open(self.database.clone())).await?;
        let mut shards = pg::within(CONNECT, Shards::open(&self.database)).await?;
        if let Some(why) = pg::within(CONNECT, shards.why_rows_would_stay()).await? {
            return Err(SessionError::RowsWouldStay(why));
        }
        let (sender, completed) = Sender::new(&self.kafka, self.steps.clone())?;
        pg::within(CONNECT, shards.join()).await?;
        losses.opened();
        let mut session =
            Session::new(shards, searcher, sender, completed, &self.instruments, reporter);
        let lost_producer = losses.lost_producer;
        let on_work = || losses.restored();
        let ended = session.run(&self.wake, shutdown, lost_producer, on_work).await;
        session.purge();
        self.instruments.shards(0);
        losses.ended(session.reached(), ended.as_ref().err());
        ended?;
        session.release().await;
        Ok(())
    }

    /// Fails if a pooler hands the sessions of Postgres from one connection to another. The locks
    /// of the shards would stay with a session that nobody has, and two relays publish one shard.
    async fn check_sessions(&self) -> Result<(), SessionError> {
        // Boxed, since the future of two connection attempts is large.
        let keeps = Box::pin(pg::keeps_sessions(&self.database));
        if pg::within(CONNECT, keeps).await? { Ok(()) } else { Err(SessionError::SharedSessions) }
    }
}

/// Losses of sessions. Each reason is logged once until a session works again, and not with every
/// failed attempt to open one; the status has the last one until then.
struct Losses {
    logged: LoggedReasons,
    backoff: Duration,
    /// `true` after a fatal error of a producer, until a session works again.
    lost_producer: bool,
    /// `true` if the status has the loss of a session in the database.
    lost_database: bool,
    status: watch::Sender<Option<String>>,
}

impl Losses {
    fn new(status: watch::Sender<Option<String>>) -> Self {
        Self {
            logged: LoggedReasons::default(),
            backoff: BACKOFF,
            lost_producer: false,
            lost_database: false,
            status,
        }
    }

    fn log(&mut self, error: &SessionError) {
        self.status.send_replace(Some(telemetry::error_chain(error)));
        self.lost_producer |= matches!(error, SessionError::Producer(_));
        self.lost_database =
            matches!(error, SessionError::Database(_) | SessionError::Restarted(_));
        let is_new = self.logged.insert(error);
        let error = error as &dyn std::error::Error;
        if is_new {
            tracing::warn!(error, "relay lost its session, events wait in the outbox");
        } else {
            tracing::debug!(error, "relay has no session, retrying");
        }
    }

    /// Forgets the loss of a session in the database: there is another one, whatever keeps it from
    /// publishing.
    fn opened(&mut self) {
        if std::mem::take(&mut self.lost_database) {
            self.status.send_replace(None);
        }
    }

    fn restored(&mut self) {
        self.status.send_replace(None);
        self.lost_producer = false;
        self.backoff = BACKOFF;
        if self.logged.clear() {
            tracing::info!("relay session restored");
        }
    }

    /// Doubles the wait after each session that published rows and deleted none, because the next
    /// one publishes them again, and after each that ended before its first record because its
    /// producer or its search failed or sessions are shared, because the next one fails too.
    fn ended(&mut self, reached: Reached, error: Option<&SessionError>) {
        let will_recur = matches!(
            error,
            Some(
                SessionError::Producer(_) | SessionError::Search(_) | SessionError::SharedSessions
            )
        );
        self.backoff = match reached {
            Reached::Nothing if !will_recur => self.backoff,
            Reached::Nothing | Reached::Acknowledged => (2 * self.backoff).min(MAX_BACKOFF),
            Reached::Deleted => BACKOFF,
        };
    }
}

/// Clears the report when the relay ends.
impl Drop for Losses {
    fn drop(&mut self) {
        self.status.send_replace(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_of_a_loss_is_logged_once_until_a_session_works_again() {
        let mut losses = Losses::new(watch::Sender::default());
        let standby = || SessionError::RowsWouldStay("the server is a standby".to_owned());
        for error in [sqlx::Error::WorkerCrashed.into(), standby(), standby()] {
            losses.log(&error);
        }
        assert_eq!(losses.logged.len(), 2, "a failover to a standby is not hidden by the loss");
        assert!(losses.status.borrow().as_ref().is_some_and(|it| it.contains("a standby")));
        let refused = |why: &str| SessionError::from(sqlx::Error::Protocol(why.to_owned()));
        losses.log(&refused("password authentication failed"));
        assert_eq!(losses.logged.len(), 3, "nor is another cause of the same loss");
        losses.log(&refused("terminated by process 71"));
        losses.log(&refused("terminated by process 72"));
        assert_eq!(losses.logged.len(), 4, "its numbers are no other cause");
        losses.restored();
        assert_eq!((losses.logged.len(), losses.status.borrow().clone()), (0, None));
    }

    #[test]
    fn a_relay_whose_producers_fail_tries_ever_more_seldom_until_one_works() {
        let mut losses = Losses::new(watch::Sender::default());
        let denied = SessionError::Producer("cluster authorization failed".to_owned());
        for wait in [2, 4, 8] {
            losses.ended(Reached::Nothing, Some(&denied));
            losses.log(&denied);
            assert_eq!((losses.backoff.as_secs(), losses.logged.len()), (wait, 1));
        }
        assert!(losses.lost_producer);
        losses.restored();
        assert_eq!((losses.backoff, losses.lost_producer), (BACKOFF, false));
    }

    #[test]
    fn a_relay_that_can_not_delete_what_it_publishes_publishes_it_ever_more_seldom() {
        let mut losses = Losses::new(watch::Sender::default());
        let mut waits = Vec::new();
        for _ in 0..8 {
            losses.ended(Reached::Acknowledged, None);
            waits.push(losses.backoff.as_secs());
        }
        assert_eq!(waits, [2, 4, 8, 16, 32, 60, 60, 60]);
        losses.ended(Reached::Nothing, None);
        assert_eq!(losses.backoff, MAX_BACKOFF, "it has published nothing");
        losses.ended(Reached::Deleted, None);
        assert_eq!(losses.backoff, BACKOFF);
    }
}
