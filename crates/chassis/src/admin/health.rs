use std::collections::BTreeMap;
use std::time::Duration;

use axum::http::StatusCode;
use consumer::{State, Status};
use kafka::Settings;
use kafka::rdkafka::consumer::{BaseConsumer, Consumer};
use outbox::RelayStatus;
use serde::Serialize;
use sqlx::PgPool;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const PROBE_EVERY: Duration = Duration::from_secs(5);
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum wait for the next event of the probe's client.
const EVENT_WAIT: Duration = Duration::from_millis(10);
/// Longer than the wait for a connection, so that its failure can be reported.
const DATABASE_TIMEOUT: Duration = Duration::from_millis(1_200);
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// Maximum time that readiness waits for its connection.
pub(crate) const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(1);

/// Health of the service. It is ready if its database answers. Without Kafka, events wait in the
/// outbox and requests can be served.
#[derive(Clone)]
pub(crate) struct Health {
    pool: PgPool,
    kafka: watch::Receiver<Kafka>,
    /// Problems of the topics that the service owns.
    topics: watch::Receiver<Vec<String>>,
    outbox: OutboxReasons,
    subscriptions: Vec<(String, Status)>,
    startup: watch::Receiver<Startup>,
    /// Cancelled when the shutdown begins, which closes the public port at once.
    shutdown: CancellationToken,
}

/// Source of the reasons why events wait in the outbox.
#[derive(Clone)]
pub(crate) enum OutboxReasons {
    Relay(RelayStatus),
    /// The service has no relay. Receives a reason while there are events nevertheless.
    NoRelay(watch::Receiver<Vec<String>>),
}

impl OutboxReasons {
    /// Returns a sentence for each reason.
    fn reasons(&self) -> Vec<String> {
        match self {
            Self::Relay(relay) => {
                let loss = relay.loss().map(|why| format!("the relay publishes nothing: {why}"));
                let paused = relay.paused().into_iter().map(|paused| paused.to_string());
                loss.into_iter().chain(paused).collect()
            }
            Self::NoRelay(reasons) => reasons.borrow().clone(),
        }
    }
}

/// Progress of the service's start.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) enum Startup {
    /// Not yet known.
    #[default]
    Begun,
    /// The migrations wait for the database, for the given reason.
    Waiting(String),
    /// The migrations are done and the API listens.
    Done,
}

/// State of Kafka.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kafka {
    /// Not probed yet.
    Unknown,
    Up,
    Away,
}

/// The access that a database grants.
enum Access {
    Writable,
    ReadOnly,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Readiness {
    Ready,
    Degraded,
    Unready,
}

#[derive(Serialize)]
pub(super) struct HealthReport {
    status: Readiness,
    /// `up`, or why it is not.
    database: String,
    /// Why the service has not started, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    starting: Option<String>,
    /// `true` if the service is shutting down.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stopping: bool,
    kafka: Kafka,
    /// Problems of the topics that the service owns.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    topics: Vec<String>,
    /// Why events wait in the outbox: a sentence for each paused topic, for the relay, or for its
    /// absence.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    outbox: Vec<String>,
    subscriptions: BTreeMap<String, String>,
}

impl Health {
    pub(crate) fn new(
        pool: PgPool,
        KafkaState(kafka): KafkaState,
        topics: watch::Receiver<Vec<String>>,
        outbox: OutboxReasons,
        subscriptions: Vec<(String, Status)>,
        startup: watch::Receiver<Startup>,
        shutdown: CancellationToken,
    ) -> Self {
        Self { pool, kafka, topics, outbox, subscriptions, startup, shutdown }
    }

    /// Probes the database, and returns the status code and body of `/readyz`.
    pub(super) async fn report(&self) -> (StatusCode, HealthReport) {
        let database = self.ask_database().await;
        let unavailable = database.is_err();
        let read_only = matches!(database, Ok(Access::ReadOnly));
        let startup = self.startup.borrow().clone();
        let kafka = *self.kafka.borrow();
        let subscriptions: Vec<_> = self
            .subscriptions
            .iter()
            .map(|(group, status)| (group.clone(), status.state()))
            .collect();
        let topics = self.topics.borrow().clone();
        let outbox = self.outbox.reasons();
        let troubled = read_only
            || kafka == Kafka::Away
            || !topics.is_empty()
            || !outbox.is_empty()
            || subscriptions.iter().any(|(_, state)| *state != State::Running);
        let stopping = self.shutdown.is_cancelled();
        let serves = !unavailable && startup == Startup::Done && !stopping;
        let readiness = match (serves, troubled) {
            (false, _) => Readiness::Unready,
            (true, true) => Readiness::Degraded,
            (true, false) => Readiness::Ready,
        };
        let code = if readiness == Readiness::Unready {
            StatusCode::SERVICE_UNAVAILABLE
        } else {
            StatusCode::OK
        };
        let report = HealthReport {
            status: readiness,
            database: match database {
                Ok(Access::Writable) => "up".to_owned(),
                Ok(Access::ReadOnly) => "read-only: it accepts no writes".to_owned(),
                Err(why) => format!("unavailable: {why}"),
            },
            starting: match startup {
                Startup::Waiting(why) => Some(format!("waiting for the database: {why}")),
                Startup::Begun | Startup::Done => None,
            },
            stopping,
            kafka,
            topics,
            outbox,
            subscriptions: subscriptions
                .into_iter()
                .map(|(group, state)| (group, state.to_string()))
                .collect(),
        };
        (code, report)
    }

    /// Queries the access that the database grants. Fails with the reason why it does not answer.
    async fn ask_database(&self) -> Result<Access, String> {
        // A standby and a demoted primary answer too, but are read-only.
        let ask = sqlx::query_scalar("select current_setting('transaction_read_only') = 'on'");
        let ask = ask.fetch_one(&self.pool);
        let Ok(answer) = tokio::time::timeout(DATABASE_TIMEOUT, ask).await else {
            return Err(format!("no answer within {DATABASE_TIMEOUT:?}"));
        };
        match answer {
            Ok(true) => Ok(Access::ReadOnly),
            Ok(false) => Ok(Access::Writable),
            Err(error) => {
                Err(pg::why_no_connection(&self.pool, error, CONNECT_TIMEOUT).await.to_string())
            }
        }
    }
}

/// Publishes the problems of the topics that the service owns.
pub(crate) type TopicProblems = watch::Sender<Vec<String>>;

/// State of Kafka as [`probe_kafka`] last found it.
pub(crate) struct KafkaState(watch::Receiver<Kafka>);

/// Publishes the findings of [`probe_kafka`].
pub(crate) struct KafkaProbe(watch::Sender<Kafka>);

/// Creates the channel from the probe to [`Health`].
pub(crate) fn kafka_state() -> (KafkaProbe, KafkaState) {
    let (probe, state) = watch::channel(Kafka::Unknown);
    (KafkaProbe(probe), KafkaState(state))
}

/// Probes Kafka every 5 s until shutdown.
pub(crate) async fn probe_kafka(
    settings: Settings,
    KafkaProbe(kafka): KafkaProbe,
    shutdown: CancellationToken,
) {
    let Ok(client) = settings.client().create::<BaseConsumer>() else { return };
    let client = std::sync::Arc::new(client);
    while !shutdown.is_cancelled() {
        let asked = std::sync::Arc::clone(&client);
        let ask = move || {
            let up = asked.fetch_metadata(Some(""), PROBE_TIMEOUT).is_ok();
            // Errors and log lines of an outage would otherwise collect on the client's queue. With
            // a wait of zero, the first log line would end a poll.
            while asked.poll(EVENT_WAIT).is_some() {}
            up
        };
        // The call blocks; shutdown must not wait for it.
        let asking = shutdown.run_until_cancelled(tokio::task::spawn_blocking(ask));
        let Some(Ok(up)) = asking.await else { return };
        let now = if up { Kafka::Up } else { Kafka::Away };
        if kafka.send_replace(now) != now {
            if up {
                tracing::info!("Kafka available");
            } else {
                tracing::warn!("Kafka unavailable, events wait in the outbox");
            }
        }
        shutdown.run_until_cancelled(tokio::time::sleep(PROBE_EVERY)).await;
    }
}
