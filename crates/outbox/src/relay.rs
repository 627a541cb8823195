use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use kafka::Settings;
use kafka::rdkafka::error::KafkaError;
use sqlx::postgres::PgConnectOptions;
use telemetry::FlowSteps;
use telemetry::instruments::Meter;
use tokio::sync::Notify;
use tokio::time::{Instant as TokioInstant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span};

use crate::instruments::Instruments;
use crate::row::Row;
use crate::sender::{Delivery, Refusal, SendOutcome, Sender};
use crate::shards::Shards;

/// Rows that are published together.
const BATCH: i64 = 500;
/// How many such batches may be under way at once: the next one is on its way while Kafka answers for the last.
const FLIGHTS: usize = 3;
/// A wake-up is a hint: rows of other instances, and rows whose writer died after its commit, are found by polling.
const POLL: Duration = Duration::from_millis(100);
/// How long a key waits whose record Kafka refused, and a relay that lost its session.
const BACKOFF: Duration = Duration::from_secs(1);
/// How often depth and age are measured.
const MEASURE: Duration = Duration::from_secs(5);
/// How long a statement may take. After that the session counts as lost: a connection can die without a word.
const STATEMENT: Duration = Duration::from_secs(10);
/// How long the records under way may take at shutdown.
const DRAIN: Duration = Duration::from_secs(2);

/// Tells the relay of this process that rows were committed.
#[derive(Clone, Debug, Default)]
pub struct RelayWaker(Arc<Notify>);

impl RelayWaker {
    /// After a commit. Cheap, and never wrong: many wake-ups are one.
    pub fn wake(&self) {
        self.0.notify_one();
    }
}

/// Publishes the outbox of one database. Every instance of a service runs one, and they share the shards.
#[derive(Debug)]
pub struct Relay {
    database: PgConnectOptions,
    kafka: Settings,
    wake: RelayWaker,
    instruments: Instruments,
    steps: FlowSteps,
}

impl Relay {
    /// `database` is the service's own, migrated; `wake` is what its writers call.
    pub fn new(
        database: PgConnectOptions,
        kafka: Settings,
        wake: RelayWaker,
        meter: &Meter,
    ) -> Self {
        let instruments = Instruments::new(meter);
        Self { database, kafka, wake, instruments, steps: FlowSteps::off() }
    }

    /// Records the wait of each event, and its publication, as steps of its flow.
    #[must_use]
    pub fn flow_steps(mut self, steps: FlowSteps) -> Self {
        self.steps = steps;
        self
    }

    /// Runs until `shutdown`. Loss of the database, of Kafka or of the shards is waited out.
    pub async fn run(self, shutdown: CancellationToken) {
        while !shutdown.is_cancelled() {
            if let Err(error) = self.session(&shutdown).await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the relay lost its session; events wait in the outbox"
                );
                tokio::select! {
                    () = sleep(BACKOFF) => {}
                    () = shutdown.cancelled() => {}
                }
            }
        }
    }

    /// One session with Postgres, with a producer of its own: what is under way when the session is lost is
    /// purged with it.
    async fn session(&self, shutdown: &CancellationToken) -> Result<(), RelayError> {
        let mut session = Session {
            shards: within(Shards::connect(&self.database)).await?,
            sender: Sender::new(&self.kafka, self.steps.clone())?,
            instruments: &self.instruments,
            refused: HashMap::new(),
            flights: VecDeque::new(),
            published: Vec::new(),
        };
        let ended = self.serve(&mut session, shutdown).await;
        session.sender.purge();
        ended?;
        session.shards.release().await;
        Ok(())
    }

    async fn serve(
        &self,
        session: &mut Session<'_>,
        shutdown: &CancellationToken,
    ) -> Result<(), RelayError> {
        let mut next_measure = Instant::now();
        while !shutdown.is_cancelled() {
            if Instant::now() >= session.shards.next_tick() {
                // A shard that is given up must have nothing under way.
                session.land_all(shutdown).await?;
                if within(session.shards.share()).await? {
                    let owned = session.shards.owned();
                    self.instruments.shards(owned.len());
                    tracing::info!(shards = ?owned, "the relay publishes these shards");
                }
            }
            if Instant::now() >= next_measure {
                within(session.measure()).await?;
                next_measure = Instant::now() + MEASURE;
            }
            let rows = within(session.exchange()).await?;
            let full = rows.len() >= usize::try_from(BATCH).unwrap_or(usize::MAX);
            session.take_off(rows);
            if full && session.flights.len() < FLIGHTS {
                continue;
            }
            if !session.flights.is_empty() {
                session.land(shutdown).await?;
            }
            if !full && session.flights.is_empty() {
                within(session.delete()).await?;
                tokio::select! {
                    () = self.wake.0.notified() => {}
                    () = sleep(POLL) => {}
                    () = shutdown.cancelled() => {}
                }
            }
        }
        session.land_all(shutdown).await
    }
}

async fn within<T>(statement: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    pg::within(STATEMENT, statement).await
}

/// What ends a session.
#[derive(Debug, thiserror::Error)]
enum RelayError {
    #[error("Postgres is unavailable")]
    Database(#[from] sqlx::Error),
    #[error("the producer can't go on")]
    Producer(#[from] KafkaError),
}

struct Session<'a> {
    shards: Shards,
    sender: Sender,
    instruments: &'a Instruments,
    /// Keys whose first record Kafka refused, until when they wait: they must not fill every batch.
    refused: HashMap<String, Instant>,
    /// The oldest first.
    flights: VecDeque<Flight>,
    /// Rows that Kafka has, to be deleted.
    published: Vec<i64>,
}

/// Rows that were handed to the producer together.
struct Flight {
    sent: Vec<(Sent, Row)>,
    /// Keys of which a record was refused since, here or in a flight before: what comes behind does not count.
    failed: HashSet<String>,
}

impl Session<'_> {
    /// Deletes what was published, and gives the oldest rows of our shards, but for those under way: one round trip.
    /// Not "after the last one": ids become visible out of order.
    async fn exchange(&mut self) -> sqlx::Result<Vec<Row>> {
        let now = Instant::now();
        self.refused.retain(|_, until| *until > now);
        let refused: Vec<_> = self.refused.keys().cloned().collect();
        let under_way = self.flights.iter().flat_map(|flight| &flight.sent).map(|(_, row)| row.id);
        // The snapshot of the statement still has what it deletes.
        let passed_over: Vec<_> = under_way.chain(self.published.iter().copied()).collect();
        let owned = self.shards.owned().to_vec();
        let rows: Vec<Row> = sqlx::query_as(
            "with gone as (delete from outbox where id = any($1))
             select id, topic, key, headers::text, payload,
                    extract(epoch from clock_timestamp() - created_at)::float8 as waited
             from outbox
             where shard = any($2) and key <> all($3)
               and id not in (select unnest($4::bigint[])) -- hashed once, asked of each row in the order of the index
             order by id limit $5",
        )
        .bind(&self.published)
        .bind(owned)
        .bind(refused)
        .bind(passed_over)
        .bind(BATCH)
        .fetch_all(self.shards.session())
        .await?;
        self.published.clear();
        Ok(rows)
    }

    /// Hands rows to the producer.
    fn take_off(&mut self, rows: Vec<Row>) {
        if rows.is_empty() {
            return;
        }
        let selected = SystemTime::now();
        let topics: BTreeSet<_> = rows.iter().map(|row| &*row.topic).collect();
        for topic in topics {
            self.instruments.begin(topic);
        }
        let sent = rows.into_iter().map(|row| (self.sender.send(&row, selected), row));
        let sent = sent.collect();
        self.flights.push_back(Flight { sent, failed: HashSet::new() });
    }

    async fn land_all(&mut self, shutdown: &CancellationToken) -> Result<(), RelayError> {
        while !self.flights.is_empty() {
            self.land(shutdown).await?;
        }
        within(self.delete()).await?;
        Ok(())
    }

    /// Awaits the oldest flight, while the session is kept alive. Of each key the prefix before its first failure is
    /// published.
    async fn land(&mut self, shutdown: &CancellationToken) -> Result<(), RelayError> {
        let Some(Flight { sent, mut failed }) = self.flights.pop_front() else {
            return Ok(());
        };
        let mut counts = BTreeMap::<_, u64>::new();
        for (delivery, row) in sent {
            let outcome = match delivery {
                Ok((delivery, span)) => {
                    delivered(delivery, &mut self.shards, shutdown).instrument(span).await?
                }
                Err(refusal) => SendOutcome::Refused(refusal),
            };
            match outcome {
                SendOutcome::Delivered if failed.contains(&row.key) => {}
                SendOutcome::Delivered => {
                    self.published.push(row.id);
                    *counts.entry(row.topic).or_default() += 1;
                }
                SendOutcome::Refused(error) => {
                    self.refuse(&row, &error);
                    failed.insert(row.key);
                }
                SendOutcome::Abandoned => {
                    self.flights.clear();
                    break;
                }
            }
        }
        for (topic, count) in counts {
            self.instruments.sent(&topic, count);
        }
        for later in &mut self.flights {
            later.failed.extend(failed.iter().cloned());
        }
        sabotage::may_die("relay.published");
        if let Some((code, reason)) = self.sender.fatal_error() {
            tracing::warn!(%code, reason, "the producer failed for good; a new one takes over");
            within(self.delete()).await?;
            return Err(KafkaError::MessageProduction(code).into());
        }
        Ok(())
    }

    fn refuse(&mut self, row: &Row, error: &Refusal) {
        self.instruments.failed(&row.topic);
        let headers = row.headers().unwrap_or_default();
        self.refused.insert(row.key.clone(), Instant::now() + BACKOFF);
        tracing::error!(
            error = error as &dyn std::error::Error,
            topic = row.topic,
            key = row.key,
            event_id = headers.get("ce_id"),
            correlation_id = headers.get("ce_correlationid"),
            "event refused by Kafka; it and the later ones of its key wait in the outbox"
        );
    }

    async fn delete(&mut self) -> sqlx::Result<()> {
        if !self.published.is_empty() {
            let statement = sqlx::query("delete from outbox where id = any($1)");
            statement.bind(&self.published).execute(self.shards.session()).await?;
            self.published.clear();
        }
        Ok(())
    }

    async fn measure(&mut self) -> sqlx::Result<()> {
        let (depth, age): (i64, f64) = sqlx::query_as(
            "select (select count(*) from (select 1 from outbox limit 100000) rows),
                    coalesce((select extract(epoch from clock_timestamp() - created_at)
                              from outbox order by id limit 1), 0)::float8",
        )
        .fetch_one(self.shards.session())
        .await?;
        self.instruments.waiting(depth.unsigned_abs(), age.max(0.0));
        Ok(())
    }
}

/// A record on its way, with the span that lasts until Kafka has it; or why it is not.
type Sent = Result<(Delivery, Span), Refusal>;

/// Waits until Kafka has a record or refuses it, however long it is away, and keeps the session alive
/// meanwhile. An error: the session is lost.
async fn delivered(
    delivery: Delivery,
    shards: &mut Shards,
    shutdown: &CancellationToken,
) -> sqlx::Result<SendOutcome> {
    tokio::pin!(delivery);
    loop {
        tokio::select! {
            biased;
            outcome = &mut delivery => return Ok(SendOutcome::of(outcome)),
            () = sleep_until(TokioInstant::from_std(shards.next_tick())) => within(shards.confirm()).await?,
            () = shutdown.cancelled() => {
                let rest = timeout(DRAIN, &mut delivery).await;
                return Ok(rest.map_or(SendOutcome::Abandoned, SendOutcome::of));
            }
        }
    }
}
