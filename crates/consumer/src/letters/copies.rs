//! Copies dead letters to `<group>.dlq` for other tools: in the order of the rows, at least once.
//! While Kafka is unavailable, only the copies wait.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka::rdkafka::error::{KafkaError, RDKafkaErrorCode};
use kafka::rdkafka::producer::{FutureProducer, FutureRecord};
use kafka::rdkafka::util::Timeout;
use kafka::{Coordinates, DeadLetter, Headers, Reason, Record, Settings, dead_letter_topic};
use sqlx::{FromRow, PgPool, Postgres, Transaction};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::import;
use super::order::last_to_copy;
use super::record::{BYTES, COLUMNS, StoredRecord};
use crate::consumer::Consumer;

/// Time limit for writing a copy, below Postgres' limit on idle transactions.
const WRITE_TIMEOUT: &str = "5000";
/// Maximum number of letters per transaction, and their maximum bytes, plus one letter.
const BATCH: i64 = 100;
const BATCH_BYTES: i64 = 1024 * 1024;
/// Time limit for copying within a transaction, below Postgres' limit on idle transactions.
const BATCH_TIME: Duration = Duration::from_secs(5);
/// Interval of the searches of the topic for letters of instances of an earlier release, and the
/// wait after a failure.
const IMPORT_EVERY: Duration = Duration::from_mins(5);
const IMPORT_AGAIN: Duration = Duration::from_secs(5);
/// Interval of the polls of the table for letters of other instances.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// First wait after a failure; it doubles up to the last.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LAST_BACKOFF: Duration = Duration::from_secs(30);
/// Class of the advisory lock that one instance holds while it copies: "DLQ" and a number of this
/// crate.
const LOCK_CLASS: i32 = 0x444c_5101;

/// Held by the subscription of this process that copies. It holds a connection while it waits for
/// Kafka, and the pool has few.
static COPYING: Semaphore = Semaphore::const_new(1);

/// Why letters could not be copied.
#[derive(Debug, thiserror::Error)]
pub(super) enum CopyError {
    #[error("the database is unavailable")]
    Database(#[from] sqlx::Error),
    #[error("Kafka refused the copy")]
    Kafka(#[from] KafkaError),
    #[error("the dead letters of an earlier release could not be read")]
    Import(#[from] kafka::ReadError),
    #[error("the task that reads them ended")]
    Ended(#[from] tokio::task::JoinError),
}

pub(crate) struct Copies {
    pool: PgPool,
    kafka: Settings,
    group: String,
    inbox_retention: Option<Duration>,
    buried: Arc<Notify>,
    shutdown: CancellationToken,
}

#[derive(FromRow)]
struct UncopiedLetter {
    #[sqlx(flatten)]
    record: StoredRecord,
    id: Uuid,
    exception: String,
    reason: String,
    causes: String,
}

impl Copies {
    pub(crate) fn new(
        consumer: &Consumer,
        buried: Arc<Notify>,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            pool: consumer.housekeeping.clone(),
            kafka: consumer.kafka.clone(),
            group: consumer.group(),
            inbox_retention: consumer.options.inbox_retention,
            buried,
            shutdown,
        }
    }

    /// Runs until shutdown. Imports the content of `<group>.dlq` first.
    pub(crate) async fn run(self) {
        let (mut backoff, mut producer, mut import_at) = (FIRST_BACKOFF, None, Instant::now());
        while !self.shutdown.is_cancelled() {
            if Instant::now() >= import_at {
                let importing = self.shutdown.run_until_cancelled(Box::pin(self.import()));
                let Some(wait) = importing.await else { return };
                import_at = Instant::now() + wait;
            }
            let copying = Box::pin(self.copy(&mut producer));
            let Some(copied) = self.shutdown.run_until_cancelled(copying).await else { return };
            let wait = match copied {
                Ok(true) => {
                    backoff = FIRST_BACKOFF;
                    continue;
                }
                Ok(false) => {
                    backoff = FIRST_BACKOFF;
                    LOOK_EVERY
                }
                Err(error) => {
                    if backoff == FIRST_BACKOFF {
                        let error = &error as &dyn std::error::Error;
                        tracing::warn!(
                            error,
                            group = self.group,
                            "dead letters not copied, retrying"
                        );
                    }
                    let wait = backoff;
                    backoff = (backoff * 2).min(LAST_BACKOFF);
                    wait
                }
            };
            tokio::select! {
                () = self.shutdown.cancelled() => {}
                () = self.buried.notified(), if wait == LOOK_EVERY => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Imports new records of the topic. Returns the wait until the next import. Copying continues
    /// after a failure.
    async fn import(&self) -> Duration {
        let importing = import::import(&self.pool, &self.kafka, &self.group, self.inbox_retention);
        match importing.await {
            Ok(()) => IMPORT_EVERY,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(
                    error,
                    group = self.group,
                    "dead letters not imported from their topic, retrying later"
                );
                IMPORT_AGAIN
            }
        }
    }

    /// Copies a batch. Returns whether more letters may be waiting.
    async fn copy(&self, producer: &mut Option<FutureProducer>) -> Result<bool, CopyError> {
        // The semaphore is never closed.
        let _turn = COPYING.acquire().await;
        let Some((mut tx, waiting)) = pg::bounded(self.next_batch()).await? else {
            return Ok(false);
        };
        let producer = match producer {
            Some(producer) => &*producer,
            None => producer.insert(self.producer()?),
        };
        let (copied, failed) = self.send(producer, waiting).await;
        let marked = async {
            let mark = "update dead_letter set copied_at = clock_timestamp() where seq = any($1)";
            sqlx::query(mark).bind(copied).execute(&mut *tx).await?;
            tx.commit().await
        };
        pg::bounded(marked).await?;
        failed.map_or(Ok(true), |error| Err(error.into()))
    }

    /// Reads the next letters to copy, in a transaction that keeps other instances from copying
    /// letters of the group. Returns `None` if one of them does, or if no letter waits.
    async fn next_batch(
        &self,
    ) -> sqlx::Result<Option<(Transaction<'static, Postgres>, Vec<UncopiedLetter>)>> {
        let mut tx = self.pool.begin().await?;
        let alone: bool = sqlx::query_scalar("select pg_try_advisory_xact_lock($1, hashtext($2))")
            .bind(LOCK_CLASS)
            .bind(&self.group)
            .fetch_one(&mut *tx)
            .await?;
        if !alone {
            return Ok(None);
        }
        let Some(last) = last_to_copy(&mut tx, &self.group).await? else { return Ok(None) };
        // The consumed payload, even if an operator has edited it since.
        let columns = COLUMNS.replace(
            " value,",
            " case when edited_at is null then value else value_before end as value,",
        );
        let query = format!(
            "select {columns}, exception, reason, causes from (
                 select *, sum(bytes) over (order by seq) - bytes as before
                 from (select *, {BYTES} + coalesce(octet_length(value_before), 0) as bytes from dead_letter where subscription = $1 and copied_at is null and seq <= $4 order by seq limit $2) oldest
             ) waiting where before <= $3 order by seq"
        );
        let waiting = sqlx::query_as(sqlx::AssertSqlSafe(query))
            .bind(&self.group)
            .bind(BATCH)
            .bind(BATCH_BYTES)
            .bind(last)
            .fetch_all(&mut *tx)
            .await?;
        Ok(Some((tx, waiting)))
    }

    fn producer(&self) -> Result<FutureProducer, KafkaError> {
        let mut config = self.kafka.producer();
        config
            .set("message.timeout.ms", WRITE_TIMEOUT)
            // Duplicates have the same identity and do no harm, but an idempotent producer can fail
            // fatally. One request in flight keeps the order.
            .set("enable.idempotence", "false")
            .set("max.in.flight.requests.per.connection", "1")
            // Topic limits apply to compressed batches: a record that arrived compressed must fit
            // again.
            .set("compression.type", "gzip");
        config.create()
    }

    /// Returns the letters that were written before the first failure, and that failure.
    async fn send(
        &self,
        producer: &FutureProducer,
        waiting: Vec<UncopiedLetter>,
    ) -> (Vec<i64>, Option<KafkaError>) {
        let topic = self.kafka.prefixed(&dead_letter_topic(&self.group).name);
        let (began, mut copied) = (Instant::now(), Vec::new());
        for letter in waiting {
            if began.elapsed() > BATCH_TIME {
                break;
            }
            let seq = letter.record.seq;
            let (record, headers) = self.with_headers(letter);
            let written = write(producer, &topic, Some(&record), &headers).await;
            let written = match written {
                Err(error) if is_too_large(&error) => {
                    tracing::warn!(
                        topic = record.topic,
                        partition = record.partition,
                        offset = record.offset,
                        "dead letter too large for its topic, copied without its content"
                    );
                    let stub = without_content(&headers);
                    write(producer, &topic, None, &stub).await
                }
                written => written,
            };
            match written {
                Ok(()) => copied.push(seq),
                Err(error) => return (copied, Some(error)),
            }
        }
        (copied, None)
    }

    fn with_headers(&self, letter: UncopiedLetter) -> (Record, Headers) {
        let UncopiedLetter { record, id, exception, reason, causes } = letter;
        let record = record.into_record();
        let letter = DeadLetter {
            origin: Coordinates::of(&record),
            group: self.kafka.prefixed(&self.group),
            reason: Reason { exception, message: reason, stacktrace: causes },
        };
        let mut headers = letter.headers(&record);
        headers.push(kafka::LETTER_ID, Some(id.to_string().as_bytes()));
        (record, headers)
    }
}

async fn write(
    producer: &FutureProducer,
    topic: &str,
    record: Option<&Record>,
    headers: &Headers,
) -> Result<(), KafkaError> {
    let mut sent: FutureRecord<'_, [u8], [u8]> =
        FutureRecord::to(topic).headers(kafka::client_headers(headers));
    sent.key = record.and_then(|it| it.key.as_deref());
    sent.payload = record.and_then(|it| it.value.as_deref());
    producer.send(sent, Timeout::Never).await.map(drop).map_err(|(error, _)| error)
}

fn is_too_large(error: &KafkaError) -> bool {
    let too_large = [RDKafkaErrorCode::MessageSizeTooLarge, RDKafkaErrorCode::InvalidMessageSize];
    error.rdkafka_error_code().is_some_and(|code| too_large.contains(&code))
}

/// Keeps the headers with the record's position and the reason.
fn without_content(headers: &Headers) -> Headers {
    headers.iter().filter(|(name, _)| kafka::is_dead_letter_header(name)).collect()
}
