//! Compares the relay with the slower of its two halves, each alone, and with both at once: the
//! least SQL that drains the outbox, and a bare producer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use envelope::{Encoded, Event, NewEvent};
use events::{ORDER_COMPLETED, OrderCompleted};
use kafka::Settings;
use kafka::rdkafka::producer::FutureProducer;
use outbox::{Prepared, Relay, RelayWaker, SHARDS};
use sqlx::types::Json;
use sqlx::{Connection, PgConnection, PgPool, Postgres, Transaction};
use telemetry::Metrics;
use tokio_util::sync::CancellationToken;

use crate::report::{NO_TARGET, Report, Round, Row, aiming_at, count};
use crate::servers::{self, Bench};
use crate::{Fallible, Size, load};

const BATCH: i64 = 500;
const LIMIT: Duration = Duration::from_mins(1);

pub(crate) async fn measure(bench: &Bench, size: Size, report: &Report) -> Fallible<Vec<Row>> {
    let stage = Arc::new(Stage::of(bench, "relay", size.of(20_000), 6).await?);
    let (mut alone, mut at_once) = (Vec::new(), Vec::new());
    for round in 1..=size.rounds {
        let ours = stage.relay().await?;
        let drain = stage.drain().await?;
        let producer = stage.produce().await?;
        let both = stage.drain_and_produce().await?;
        let summary = format!(
            "{ours:.0} rows/s, drain alone {drain:.0}, producer alone {producer:.0}, both at once {both:.0}"
        );
        report.round("relay", round, size.rounds, &summary);
        alone.push(Round { ours, theirs: drain.min(producer) });
        at_once.push(Round { ours, theirs: both });
    }
    Ok(vec![
        Row::rate("relay, over the slower half alone", "rows/s", aiming_at(0.6, 0.85), alone),
        Row::rate("relay, over both halves at once", "rows/s", NO_TARGET, at_once),
    ])
}

/// The same events as rows of the outbox and as records of Kafka.
pub(crate) struct Stage {
    settings: Settings,
    url: String,
    pool: PgPool,
    rows: Vec<Prepared>,
    records: Vec<Encoded>,
}

impl Stage {
    /// Creates the database, the topic and the events. Each `name` has a database and a topic of
    /// its own.
    pub(crate) async fn of(
        bench: &Bench,
        name: &str,
        rows: usize,
        partitions: i32,
    ) -> Fallible<Self> {
        let settings = bench.settings(&format!("{name}-"));
        load::topic(&settings, ORDER_COMPLETED.partitions(partitions)).await?;
        let url = bench.database(name).await?;
        let pool = servers::pool(&url).await?;
        outbox::migrate(&pool).await?;
        let messages = load::completions(rows)?;
        let records = messages.iter().cloned().map(NewEvent::encode).collect::<Result<_, _>>()?;
        let rows = messages.into_iter().map(outbox::prepare).collect::<Result<_, _>>()?;
        Ok(Self { settings, url, pool, rows, records })
    }

    /// Returns the relay's rate in rows per second, from the commit of all rows to the deletion of
    /// the last one.
    pub(crate) async fn relay(&self) -> Fallible<f64> {
        self.relay_times(1, 0).await
    }

    /// Does the same with `times` copies of each row, while other rows wait for a topic that does
    /// not exist.
    pub(crate) async fn relay_times(&self, times: usize, waiting: usize) -> Fallible<f64> {
        let before = self.clear().await?;
        let waiting = self.wait_for_no_topic(i64::try_from(waiting)?).await?;
        let (wake, shutdown) = (RelayWaker::default(), CancellationToken::new());
        let (database, meter) = (self.url.parse()?, Metrics::new("bench").meter("outbox"));
        let relay = Relay::new(database, self.settings.clone(), wake.clone(), &meter);
        let running = tokio::spawn(relay.run(shutdown.clone()));
        // Not of the pool, whose checks would be measured at each look.
        let mut watching = PgConnection::connect(&self.url).await?;
        let measured = async {
            // Publishing one row first connects the relay's session and its producer.
            self.fill(&self.rows[..1]).await?;
            until_gone(&mut watching, waiting).await?;
            // One commit makes all rows visible at once.
            let mut tx = self.pool.begin().await?;
            for _ in 0..times {
                write(&mut tx, &self.rows).await?;
            }
            let last = commit(tx).await?;
            let began = Instant::now();
            wake.wake();
            until_deleted(&mut watching, waiting, last).await?;
            Fallible::Ok(began.elapsed())
        };
        let measured = measured.await;
        shutdown.cancel();
        running.await?;
        let took = measured?;
        let rows = times * self.rows.len();
        self.expect_records(before + rows + 1)?;
        Ok(count(rows) / took.as_secs_f64())
    }

    /// Returns the rate of [`exchange`] alone in rows per second.
    async fn drain(&self) -> Fallible<f64> {
        let mut session = self.filled_outbox().await?;
        let began = Instant::now();
        self.drain_all(&mut session).await?;
        let took = began.elapsed();
        until_gone(&mut session, 0).await?;
        session.close().await?;
        Ok(count(self.rows.len()) / took.as_secs_f64())
    }

    /// Returns the rate of a producer with the relay's settings in records per second.
    pub(crate) async fn produce(&self) -> Fallible<f64> {
        let before = load::records(&self.settings, OrderCompleted::TYPE)?;
        let producer = self.connected_producer().await?;
        let began = Instant::now();
        self.produce_all(&producer).await?;
        let took = began.elapsed();
        self.expect_records(before + self.records.len() + 1)?;
        Ok(count(self.records.len()) / took.as_secs_f64())
    }

    /// Returns the rate of both at once, which do not wait for each other but share the processors,
    /// in rows per second until the later one has ended.
    async fn drain_and_produce(self: &Arc<Self>) -> Fallible<f64> {
        let before = load::records(&self.settings, OrderCompleted::TYPE)?;
        let mut session = self.filled_outbox().await?;
        let producer = self.connected_producer().await?;
        let stage = Arc::clone(self);
        let began = Instant::now();
        let producing = tokio::spawn(async move { stage.produce_all(&producer).await });
        self.drain_all(&mut session).await?;
        producing.await??;
        let took = began.elapsed();
        until_gone(&mut session, 0).await?;
        session.close().await?;
        self.expect_records(before + self.records.len() + 1)?;
        Ok(count(self.rows.len()) / took.as_secs_f64())
    }

    /// Fills the outbox. Returns a session that can drain it.
    async fn filled_outbox(&self) -> Fallible<PgConnection> {
        self.clear().await?;
        self.fill(&self.rows).await?;
        Ok(PgConnection::connect(&self.url).await?)
    }

    /// Drains the outbox by one statement that deletes rows and reads the next ones, repeated.
    async fn drain_all(&self, session: &mut PgConnection) -> Fallible<()> {
        let (mut selected, mut drained) = (Vec::new(), 0);
        loop {
            selected = exchange(session, &selected).await?;
            if selected.is_empty() {
                break;
            }
            drained += selected.len();
        }
        let rows = self.rows.len();
        if drained != rows {
            return Err(format!("{drained} rows drained of {rows}").into());
        }
        Ok(())
    }

    /// Returns a producer that has sent a record, and is connected.
    async fn connected_producer(&self) -> Fallible<FutureProducer> {
        let producer: FutureProducer = self.settings.producer().create()?;
        let topic = self.settings.prefixed(OrderCompleted::TYPE);
        load::produce(&producer, &topic, &self.records[..1]).await?;
        Ok(producer)
    }

    async fn produce_all(&self, producer: &FutureProducer) -> Fallible<()> {
        let topic = self.settings.prefixed(OrderCompleted::TYPE);
        load::produce(producer, &topic, &self.records).await
    }

    /// Empties the outbox. Returns the number of records in the topic.
    async fn clear(&self) -> Fallible<usize> {
        sqlx::raw_sql("truncate outbox").execute(&self.pool).await?;
        load::records(&self.settings, OrderCompleted::TYPE)
    }

    /// Writes rows in one transaction. Returns the last row's id.
    async fn fill(&self, rows: &[Prepared]) -> Fallible<i64> {
        let mut tx = self.pool.begin().await?;
        write(&mut tx, rows).await?;
        commit(tx).await
    }

    /// Writes rows of a topic that does not exist. Returns the last row's id.
    async fn wait_for_no_topic(&self, rows: i64) -> Fallible<i64> {
        sqlx::query(
            "insert into outbox (shard, topic, key, headers, payload)
             select n % $2, 'bench.missing', n::text, '{}', '{}' from generate_series(1, $1) n",
        )
        .bind(rows)
        .bind(SHARDS)
        .execute(&self.pool)
        .await?;
        let last = sqlx::query_scalar("select coalesce(max(id), 0) from outbox");
        Ok(last.fetch_one(&self.pool).await?)
    }

    fn expect_records(&self, expected: usize) -> Fallible<()> {
        load::expect_records(&self.settings, OrderCompleted::TYPE, expected)
    }
}

/// Waits until no row is left above the id `after`. Polls the last row, which is usually deleted
/// last, because counting all rows would slow the relay.
async fn until_deleted(watching: &mut PgConnection, after: i64, id: i64) -> Fallible<()> {
    let deadline = Instant::now() + LIMIT;
    while Instant::now() < deadline {
        let there = sqlx::query_scalar("select exists (select from outbox where id = $1)");
        if !there.bind(id).fetch_one(&mut *watching).await? {
            return until_gone(watching, after).await;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Err("the relay did not drain the outbox".into())
}

async fn until_gone(watching: &mut PgConnection, after: i64) -> Fallible<()> {
    let deadline = Instant::now() + LIMIT;
    while Instant::now() < deadline {
        let there = sqlx::query_scalar("select exists (select from outbox where id > $1)");
        if !there.bind(after).fetch_one(&mut *watching).await? {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Err("rows are left in the outbox".into())
}

async fn write(tx: &mut PgConnection, rows: &[Prepared]) -> Fallible<()> {
    for some in rows.chunks(1000) {
        outbox::append(tx, some).await?;
    }
    Ok(())
}

/// Commits, and returns the last row's id.
async fn commit(mut tx: Transaction<'_, Postgres>) -> Fallible<i64> {
    let last = sqlx::query_scalar("select max(id) from outbox").fetch_one(&mut *tx).await?;
    tx.commit().await?;
    Ok(last)
}

/// A row as the relay reads it.
type Selected = (i64, String, String, Json<BTreeMap<String, String>>, Vec<u8>, f64);

/// Deletes the published rows and selects the next ones: the minimum that a relay needs.
async fn exchange(session: &mut PgConnection, published: &[i64]) -> Fallible<Vec<i64>> {
    let rows: Vec<Selected> = sqlx::query_as(
        "with gone as (delete from outbox where id = any($1))
         select id, topic, key, headers, payload,
                extract(epoch from clock_timestamp() - created_at)::float8 as waited
         from outbox
         where shard = any($2) and id not in (select unnest($1::bigint[]))
         order by id limit $3",
    )
    .bind(published)
    .bind((0..SHARDS).collect::<Vec<_>>())
    .bind(BATCH)
    .fetch_all(session)
    .await?;
    Ok(rows.into_iter().map(|(id, ..)| id).collect())
}
