use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use events::Envelope;
use futures::FutureExt;
use kafka::{Record, Settings};
use sqlx::{PgPool, Postgres, Transaction};
use telemetry::{TraceContext, query_span};
use tracing::{Instrument, Span, field};

use crate::attempts;
use crate::failure::Failure;
use crate::faults::Faults;
use crate::handler::Decoded;
use crate::inbox::{Admission, Outcome, admit};
use crate::instruments::Instruments;
use crate::options::Options;
use crate::replay::Replay;
use crate::subscription::{Route, Subscription};

/// A message that no handler is for.
#[derive(Debug, thiserror::Error)]
enum Unroutable {
    #[error("there is no handler for the type {0}")]
    NoHandler(String),
    #[error("an event of type {event_type} does not belong on the topic {topic}")]
    WrongTopic { event_type: String, topic: String },
}

/// The handler did not end in time.
#[derive(Debug, thiserror::Error)]
#[error("the handler took longer than {0:?}")]
struct TookTooLong(std::time::Duration);

/// The handler panicked.
#[derive(Debug, thiserror::Error)]
#[error("the handler panicked: {0}")]
struct Panicked(String);

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

/// One attempt at one message: a transaction with the inbox row and the effect.
pub(crate) struct Processor {
    pub(crate) subscription: Arc<Subscription>,
    pub(crate) group: String,
    pub(crate) pool: PgPool,
    pub(crate) kafka: Settings,
    pub(crate) options: Options,
    pub(crate) instruments: Instruments,
    pub(crate) faults: Faults,
    /// Called after each commit of an effect.
    pub(crate) on_commit: Arc<dyn Fn() + Send + Sync>,
}

impl Processor {
    /// Makes one attempt. `retry` counts those before; `noted`: there is a row of them, which goes if this one
    /// succeeds.
    pub(crate) async fn attempt(
        &self,
        record: &Record,
        retry: u32,
        noted: bool,
    ) -> Result<Outcome, Failure> {
        let outcome = self.guarded(self.decode_and_process(record, retry, noted)).await;
        if let Err(failure) = &outcome {
            tracing::warn!(
                error = failure as &dyn std::error::Error,
                class = ?failure.class(),
                retry,
                topic = record.topic,
                partition = record.partition,
                offset = record.offset,
                "a message was not processed"
            );
        }
        outcome
    }

    /// Measures an attempt, and makes failures of panics and of all that does not end.
    async fn guarded(
        &self,
        attempt: impl Future<Output = Result<Outcome, Failure>>,
    ) -> Result<Outcome, Failure> {
        let began = Instant::now();
        let caught = AssertUnwindSafe(attempt).catch_unwind();
        // Above all limits of the parts: a connection that died without a word must not hold a lane.
        let outcome = match tokio::time::timeout(self.options.handler_timeout * 2, caught).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(panic)) => Err(Failure::transient(Panicked(said(panic.as_ref())))),
            Err(elapsed) => Err(Failure::unavailable(elapsed)),
        };
        self.instruments.attempted(began.elapsed());
        outcome
    }

    /// One attempt at an event that did not come by Kafka: the same inbox, handler and transaction.
    pub(crate) async fn take(&self, envelope: Envelope, data: &[u8]) -> Result<Outcome, Failure> {
        let span = self.direct_span(&envelope);
        let outcome = async {
            self.guarded(async {
                let route = self.handler_of(&envelope.event_type)?;
                let message = Decoded { envelope: Arc::new(envelope), data, span: Span::current() };
                let (tx, outcome, gap) = self.process(route, &message).await?;
                self.commit(tx).await?;
                if gap {
                    self.instruments.gap();
                }
                self.settled(&message, outcome, 0);
                Ok(outcome)
            })
            .await
        };
        outcome.instrument(span).await
    }

    async fn decode_and_process(
        &self,
        record: &Record,
        retry: u32,
        noted: bool,
    ) -> Result<Outcome, Failure> {
        let replay = self.replay(record);
        if let Some(replay) = &replay
            && self.park(replay).await?
        {
            self.instruments.settled(Outcome::Parked);
            return Ok(Outcome::Parked);
        }
        let (message, route) = self.decode(record, Span::current())?;
        let (mut tx, outcome, gap) = self.process(route, &message).await?;
        if let Some(replay) = &replay {
            replay.settled(&mut tx, &self.group, outcome).await?;
        }
        if noted {
            attempts::forget(&mut *tx, &self.group, record).await?;
        }
        self.commit(tx).await?;
        if gap {
            self.instruments.gap();
        }
        self.settled(&message, outcome, retry);
        Ok(outcome)
    }

    /// Parks a replay that failed too often before: it stays the dead letter that it is.
    async fn park(&self, replay: &Replay) -> sqlx::Result<bool> {
        let failures = replay.failures(&self.pool, &self.group).await?;
        if failures < i64::from(self.options.max_replays) {
            return Ok(false);
        }
        let reason = format!("it was replayed {failures} times in vain, and is not tried again");
        tracing::error!(reason, replay_id = replay.id(), "a replay is parked");
        replay.in_vain(&self.pool, &self.group, Outcome::Parked.as_str(), &reason).await?;
        Ok(true)
    }

    /// Reads a message's envelope, and finds its handler.
    pub(crate) fn decode<'a>(
        &self,
        record: &'a Record,
        span: Span,
    ) -> Result<(Decoded<'a>, &Route), Failure> {
        let (envelope, data) = kafka::decode(record).map_err(Failure::permanent)?;
        let route = self.route(record, &envelope)?;
        span.record("event_id", envelope.id.as_str());
        span.record("correlation_id", envelope.correlation_id.as_str());
        span.record("tenant_id", envelope.tenant_id.as_str());
        Ok((Decoded { envelope: Arc::new(envelope), data, span }, route))
    }

    /// Says and counts what a message came to, in its span.
    pub(crate) fn settled(&self, message: &Decoded<'_>, outcome: Outcome, retry: u32) {
        self.instruments.settled(outcome);
        let _entered = message.span.enter();
        tracing::info!(
            outcome = outcome.as_str(),
            event_type = message.envelope.event_type,
            subscription = self.group,
            retry,
            "a message is settled"
        );
    }

    /// Makes the effect, if there is to be one, in a transaction that is to be committed. True: versions of the same
    /// subject are missing before.
    async fn process(
        &self,
        route: &Route,
        message: &Decoded<'_>,
    ) -> Result<(Transaction<'static, Postgres>, Outcome, bool), Failure> {
        let (mut tx, admission) = async {
            let mut tx = self.pool.begin().await?;
            let admission = admit(&mut tx, &self.group, route.mode, &message.envelope).await?;
            Ok::<_, sqlx::Error>((tx, admission))
        }
        .instrument(query_span("insert inbox"))
        .await?;
        let gap = match admission {
            Admission::Settled(outcome) => return Ok((tx, outcome, false)),
            Admission::Admitted { gap } => gap,
        };
        self.within_limit(async {
            self.faults.strike().await?;
            sabotage::may_die_on(message.envelope.id.as_str());
            route.handler.handle(&mut tx, message).await
        })
        .await?;
        Ok((tx, Outcome::Processed, gap))
    }

    /// Gives handlers the time they may take.
    pub(crate) async fn within_limit(
        &self,
        handled: impl Future<Output = Result<(), Failure>>,
    ) -> Result<(), Failure> {
        let limit = self.options.handler_timeout;
        let elapsed = |_| Failure::transient(TookTooLong(limit));
        tokio::time::timeout(limit, handled).await.map_err(elapsed)?
    }

    /// Commits effects, and tells those who wait for it.
    pub(crate) async fn commit(&self, mut tx: Transaction<'_, Postgres>) -> sqlx::Result<()> {
        // A handler that swallowed an SQL error leaves a transaction whose commit rolls back without saying so;
        // any statement does say so.
        sqlx::query("select 1").execute(&mut *tx).await?;
        sabotage::may_die("consumer.before-commit");
        tx.commit().instrument(query_span("commit")).await?;
        sabotage::may_die("consumer.committed");
        (self.on_commit)();
        Ok(())
    }

    /// Tells the operator that a replay is a dead letter again. It is one whether this is written or not.
    pub(crate) async fn failed_again(&self, record: &Record, reason: &str) {
        let Some(replay) = self.replay(record) else { return };
        let written = replay.in_vain(&self.pool, &self.group, "failed", reason);
        let written = tokio::time::timeout(self.options.handler_timeout, written).await;
        let error: Box<dyn std::error::Error> = match written {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.into(),
            Err(elapsed) => elapsed.into(),
        };
        tracing::warn!(error = &*error, "a replay's outcome was not written");
    }

    /// Asked of every message, so that nothing is read of those that are none.
    fn replay(&self, record: &Record) -> Option<Replay> {
        self.is_retry_topic(&record.topic).then(|| Replay::carried_by(record)).flatten()
    }

    pub(crate) fn is_retry_topic(&self, topic: &str) -> bool {
        self.kafka.unprefixed(topic).strip_suffix(".retry") == Some(&self.group)
    }

    /// The handler of the message's type. An event on another type's topic is somebody's mistake; a replay's topic
    /// is the one where it first lay.
    fn route(&self, record: &Record, envelope: &Envelope) -> Result<&Route, Failure> {
        let event_type = &envelope.event_type;
        let replay = self.replay(record);
        let topic = match &replay {
            Some(replay) => self.kafka.unprefixed(&replay.origin().topic),
            // Sent to the retry topic by hand: it lay nowhere before.
            None if self.is_retry_topic(&record.topic) => event_type,
            None => self.kafka.unprefixed(&record.topic),
        };
        if topic != event_type {
            let (event_type, topic) = (event_type.clone(), topic.to_owned());
            return Err(Failure::permanent(Unroutable::WrongTopic { event_type, topic }));
        }
        self.handler_of(event_type)
    }

    fn handler_of(&self, event_type: &str) -> Result<&Route, Failure> {
        self.subscription
            .route_of(event_type)
            .ok_or_else(|| Failure::permanent(Unroutable::NoHandler(event_type.to_owned())))
    }

    /// The span of an event that came with a request: part of that one, linked to where it was created.
    fn direct_span(&self, envelope: &Envelope) -> Span {
        let span = tracing::info_span!(
            "process",
            otel.name = format!("process {}", envelope.event_type),
            otel.kind = "internal",
            messaging.message.id = envelope.id.as_str(),
            messaging.message.conversation_id = envelope.correlation_id.as_str(),
            messaging.consumer.group.name = self.group,
            event_id = envelope.id.as_str(),
            correlation_id = envelope.correlation_id.as_str(),
            tenant_id = envelope.tenant_id.as_str(),
        );
        if let Some(parent) = &envelope.traceparent {
            TraceContext::new(parent, None).link(&span);
        }
        span
    }

    /// The span of a message. A child of the span in which the event was created, and linked to the hop; a
    /// replay is a trace of its own, linked to both.
    pub(crate) fn span(&self, record: &Record) -> Span {
        let topic = self.kafka.unprefixed(&record.topic);
        let replay = self.replay(record);
        let span = tracing::info_span!(
            "process",
            otel.name = format!("process {topic}"),
            otel.kind = "consumer",
            otel.status_code = field::Empty,
            messaging.system = "kafka",
            messaging.operation.name = "process",
            messaging.operation.r#type = "process",
            messaging.destination.name = topic,
            messaging.destination.partition.id = record.partition.to_string(),
            messaging.kafka.offset = record.offset,
            messaging.consumer.group.name = self.group,
            messaging.message.id = record.text_header("ce_id"),
            messaging.message.conversation_id = record.text_header("ce_correlationid"),
            replay_id = replay.as_ref().map(Replay::id),
            event_id = field::Empty,
            correlation_id = field::Empty,
            tenant_id = field::Empty,
            error.r#type = field::Empty,
        );
        let context = |name| record.text_header(name).map(|parent| TraceContext::new(parent, None));
        let (created_in, hop) = (context("ce_traceparent"), context("traceparent"));
        match created_in.as_ref().or(hop.as_ref()) {
            Some(created_in) if replay.is_some() => created_in.link(&span),
            Some(created_in) => created_in.set_parent(&span),
            None => {}
        }
        if let Some(hop) = hop {
            hop.link(&span);
        }
        span
    }
}
