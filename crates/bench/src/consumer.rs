//! Compares the consumer with bare rdkafka that has the same effect.

use std::time::{Duration, Instant};

use consumer::{Consumer, Failure, Handler, Options, Received, Subscription};
use envelope::Event;
use events::{ORDER_COMPLETED, OrderCompleted};
use kafka::Settings;
use kafka::rdkafka::consumer::{BaseConsumer, Consumer as _};
use kafka::rdkafka::message::{Headers as _, Message, OwnedMessage};
use sqlx::{Connection, PgConnection, PgPool};
use telemetry::Metrics;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::report::{NO_TARGET, Report, Round, Row, aiming_at, count};
use crate::servers::{self, Bench};
use crate::{Fallible, Size, load};

/// Number of partitions, and of workers and connections of the baseline.
const SIDE_BY_SIDE: usize = 8;
/// Time limit of one side.
const LIMIT: Duration = Duration::from_mins(2);

pub(crate) async fn measure(bench: &Bench, size: Size, report: &Report) -> Fallible<Vec<Row>> {
    let stage = Stage::new(bench, "consumer", size.of(6_000)).await?;
    let (mut same_sql, mut effect_alone) = (Vec::new(), Vec::new());
    for round in 1..=size.rounds {
        let one_by_one = Options { max_batch: 1, ..Options::default() };
        let ours = stage.ours(round, one_by_one, InsertEffect).await?;
        let with_inbox = stage.theirs(&format!("same-sql.{round}"), Sql::InboxAndEffect).await?;
        let without = stage.theirs(&format!("effect.{round}"), Sql::Effect).await?;
        let summary = format!(
            "{ours:.0} events/s, bare rdkafka {with_inbox:.0}, without an inbox {without:.0}"
        );
        report.round("consumer", round, size.rounds, &summary);
        same_sql.push(Round { ours, theirs: with_inbox });
        effect_alone.push(Round { ours, theirs: without });
    }
    let name = "consumer, over bare rdkafka, same SQL";
    let alone = "consumer, over bare rdkafka without inbox";
    Ok(vec![
        Row::rate(name, "events/s", aiming_at(0.8, 0.95), same_sql),
        Row::rate(alone, "events/s", NO_TARGET, effect_alone),
    ])
}

/// Statements of the baseline's transaction.
#[derive(Clone, Copy)]
enum Sql {
    /// Inserts an inbox row as the consumer does, to detect duplicates.
    InboxAndEffect,
    /// Inserts only the effect, as if Kafka delivered each message once.
    Effect,
}

/// Handler that inserts the effects of one or many events with one statement.
pub(crate) struct InsertEffect;

impl Handler for InsertEffect {
    type Event = OrderCompleted;

    async fn handle(
        &self,
        tx: &mut PgConnection,
        events: &[Received<OrderCompleted>],
    ) -> Result<(), Failure> {
        if let [event] = events {
            return Ok(insert(tx, &event.data).await?);
        }
        let ids: Vec<_> = events.iter().map(|event| event.data.order.order_id.0).collect();
        let totals: Vec<_> = events.iter().map(|event| event.data.order.total).collect();
        sqlx::query(
            "insert into effects (order_id, total) select * from unnest($1::uuid[], $2::bigint[])",
        )
        .bind(ids)
        .bind(totals)
        .execute(tx)
        .await?;
        Ok(())
    }
}

/// Inserts the inbox row. Returns `false` for a duplicate.
async fn enter(tx: &mut PgConnection, message: &OwnedMessage) -> Fallible<bool> {
    let (source, id) = (header(message, "ce_source")?, header(message, "ce_id")?);
    let entered = sqlx::query(
        "insert into inbox (subscription, source, event_id, outcome) values ('theirs', $1, $2, 'processed')
         on conflict do nothing",
    )
    .bind(source)
    .bind(id)
    .execute(tx)
    .await?;
    Ok(entered.rows_affected() == 1)
}

fn header<'a>(message: &'a OwnedMessage, name: &str) -> Fallible<&'a str> {
    let headers = message.headers().ok_or("a record without headers")?;
    let value = headers.iter().find(|header| header.key == name).and_then(|header| header.value);
    Ok(std::str::from_utf8(value.ok_or("a header is missing")?)?)
}

async fn insert(tx: &mut PgConnection, event: &OrderCompleted) -> sqlx::Result<()> {
    sqlx::query("insert into effects (order_id, total) values ($1, $2)")
        .bind(event.order.order_id.0)
        .bind(event.order.total)
        .execute(tx)
        .await?;
    Ok(())
}

/// A topic with events, and a database for their effects.
pub(crate) struct Stage {
    settings: Settings,
    url: String,
    pool: PgPool,
    events: usize,
}

impl Stage {
    /// Creates the database and the topic, and publishes the events. Each `name` has a database and
    /// a topic of its own.
    pub(crate) async fn new(bench: &Bench, name: &str, events: usize) -> Fallible<Self> {
        Self::of(bench, name, events, i32::try_from(SIDE_BY_SIDE)?).await
    }

    /// Does the same with another number of partitions.
    pub(crate) async fn of(
        bench: &Bench,
        name: &str,
        events: usize,
        partitions: i32,
    ) -> Fallible<Self> {
        let settings = bench.settings(&format!("{name}-"));
        load::topic(&settings, ORDER_COMPLETED.partitions(partitions)).await?;
        let url = bench.database(name).await?;
        let stage = Self { pool: tables(&url).await?, settings, url, events };
        stage.publish().await?;
        Ok(stage)
    }

    /// Returns the same topic with another database.
    pub(crate) async fn with_database(&self, bench: &Bench, name: &str) -> Fallible<Self> {
        let url = bench.database(name).await?;
        let (settings, events) = (self.settings.clone(), self.events);
        Ok(Self { pool: tables(&url).await?, settings, url, events })
    }

    /// Publishes the number of events again, with new ids.
    pub(crate) async fn publish(&self) -> Fallible<()> {
        load::publish(&self.settings, self.events).await
    }

    pub(crate) fn events(&self) -> usize {
        self.events
    }

    pub(crate) fn pool(&self) -> &PgPool {
        &self.pool
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Returns the consumer's rate in events per second. Each `generation` is a new group, so that
    /// it reads from the beginning.
    pub(crate) async fn ours(
        &self,
        generation: u32,
        options: Options,
        handler: impl Handler<Event = OrderCompleted>,
    ) -> Fallible<f64> {
        self.clear().await?;
        sqlx::raw_sql("truncate inbox").execute(&self.pool).await?;
        let subscription = Subscription::new("ours").generation(generation);
        self.timed(subscription.each_once(handler), options).await
    }

    /// Returns the consumer's rate in events per second, from the committed offsets of its group.
    pub(crate) async fn ours_resumed(
        &self,
        options: Options,
        handler: impl Handler<Event = OrderCompleted>,
    ) -> Fallible<f64> {
        self.clear().await?;
        self.timed(Subscription::new("ours").each_once(handler), options).await
    }

    async fn timed(&self, subscription: Subscription, options: Options) -> Fallible<f64> {
        let (began, ended) = self.span(subscription, options).await?;
        Ok(count(self.events) / (ended - began))
    }

    /// Returns the times of the consumer's first transaction and of the last effect, in seconds.
    pub(crate) async fn span(
        &self,
        subscription: Subscription,
        options: Options,
    ) -> Fallible<(f64, f64)> {
        self.run(self.consumer(subscription, options)).await
    }

    pub(crate) fn consumer(&self, subscription: Subscription, options: Options) -> Consumer {
        let meter = Metrics::new("bench").meter("consumer");
        let (pool, settings) = (self.pool.clone(), self.settings.clone());
        Consumer::new(subscription, pool, settings, &meter).options(options)
    }

    /// Runs a consumer until every event has had its effect. Returns the times of
    /// [`span`](Self::span).
    pub(crate) async fn run(&self, consumer: Consumer) -> Fallible<(f64, f64)> {
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(consumer.run(shutdown.clone()));
        let effect_span = self.effect_span().await;
        shutdown.cancel();
        running.await?;
        effect_span
    }

    /// Returns the baseline's rate in events per second, without the workspace's consumer.
    async fn theirs(&self, group: &str, sql: Sql) -> Fallible<f64> {
        self.clear().await?;
        sqlx::raw_sql("truncate inbox").execute(&self.pool).await?;
        let (mut workers, mut working) = (Vec::new(), JoinSet::new());
        for _ in 0..SIDE_BY_SIDE {
            let (worker, queue) = unbounded_channel();
            working.spawn(work(PgConnection::connect(&self.url).await?, queue, sql));
            workers.push(worker);
        }
        let mut config = self.settings.consumer(group);
        config.set("enable.auto.offset.store", "true");
        let topic = self.settings.prefixed(OrderCompleted::TYPE);
        let stop = CancellationToken::new();
        let until = stop.clone();
        let polling = tokio::task::spawn_blocking(move || {
            let consumer: BaseConsumer = config.create()?;
            consumer.subscribe(&[&topic])?;
            while !until.is_cancelled() {
                if let Some(message) = consumer.poll(Duration::from_millis(50)) {
                    let message = message?.detach();
                    let worker = usize::try_from(message.partition())? % workers.len();
                    workers[worker].send(message)?;
                }
            }
            Fallible::Ok(())
        });
        let effect_span = tokio::select! {
            effect_span = self.effect_span() => effect_span,
            // Workers end before their queues only by an error.
            ended = working.join_next() => ended.ok_or("no worker")?.map_err(Into::into).flatten()
                .and(Err("a worker ended".into())),
        };
        stop.cancel();
        let polled = polling.await?;
        let (began, ended) = effect_span?;
        polled?;
        Ok(count(self.events) / (ended - began))
    }

    pub(crate) async fn clear(&self) -> Fallible<()> {
        sqlx::raw_sql("truncate effects").execute(&self.pool).await?;
        Ok(())
    }

    /// Waits until every event has had exactly one effect. Returns the times of the first
    /// transaction and of the last effect in seconds, by the database's clock, so that joining the
    /// group is not measured.
    async fn effect_span(&self) -> Fallible<(f64, f64)> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let (effects, began, ended): (i64, Option<f64>, Option<f64>) = sqlx::query_as(
                "select count(*), extract(epoch from min(began))::float8, extract(epoch from max(at))::float8
                 from effects",
            )
            .fetch_one(&self.pool)
            .await?;
            match (usize::try_from(effects)?, began, ended) {
                (effects, Some(began), Some(ended)) if effects == self.events => {
                    return Ok((began, ended));
                }
                (effects, ..) if effects > self.events || Instant::now() > deadline => {
                    let events = self.events;
                    return Err(format!("{effects} effects of {events} events").into());
                }
                _ => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }
}

/// Creates the tables of the consumer and of the effects.
async fn tables(url: &str) -> Fallible<PgPool> {
    let pool = servers::pool(url).await?;
    consumer::migrate(&pool).await?;
    // `began` is the start of the transaction, so that the duration of the first one counts, too.
    sqlx::raw_sql(
        "create table effects (
             order_id uuid primary key,
             total bigint not null,
             began timestamptz not null default now(),
             at timestamptz not null default clock_timestamp()
         )",
    )
    .execute(&pool)
    .await?;
    Ok(pool)
}

/// Processes messages as a program without the consumer does: one transaction each.
async fn work(
    mut connection: PgConnection,
    mut queue: UnboundedReceiver<OwnedMessage>,
    sql: Sql,
) -> Fallible<()> {
    while let Some(message) = queue.recv().await {
        let event = serde_json::from_slice(message.payload().unwrap_or_default())?;
        let mut tx = connection.begin().await?;
        let is_new = match sql {
            Sql::InboxAndEffect => enter(&mut tx, &message).await?,
            Sql::Effect => true,
        };
        if is_new {
            insert(&mut tx, &event).await?;
        }
        tx.commit().await?;
    }
    Ok(())
}
