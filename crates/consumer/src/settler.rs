//! What becomes of a message: its effect, a retry, or a dead letter.

use std::sync::Arc;
use std::time::Duration;

use kafka::Record;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span};

use crate::attempts::Attempts;
use crate::dead_letters::DeadLetters;
use crate::failure::{Class, Failure};
use crate::instruments::Instruments;
use crate::lane::{Delivery, Work};
use crate::partitions::{Partitions, Running};
use crate::processor::Processor;
use crate::status::{Held, Status};

/// The wait after the database was away, doubled up to the second.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Shared by all lanes of a consumer.
pub(crate) struct Settler {
    pub(crate) processor: Processor,
    pub(crate) dead_letters: DeadLetters,
    pub(crate) attempts: Arc<Attempts>,
    pub(crate) partitions: Arc<Partitions>,
    pub(crate) status: Status,
    pub(crate) shutdown: CancellationToken,
}

/// What became of a message.
pub(crate) enum Settled {
    /// It is dealt with, or no longer ours.
    Done,
    /// It is to be tried again later.
    Retry,
}

/// What became of messages that shared a transaction.
pub(crate) enum Together {
    /// They are dealt with, but for those that can't be read.
    Settled { left_out: Vec<Work> },
    /// None is.
    Failed(Vec<Work>),
}

impl Settler {
    pub(crate) fn instruments(&self) -> &Instruments {
        &self.processor.instruments
    }

    pub(crate) fn max_batch(&self) -> usize {
        self.processor.options.max_batch
    }

    pub(crate) fn backoff(&self, retry: u32) -> Duration {
        self.processor.options.backoff(retry)
    }

    /// A message that failed before, or was under way when the process died; a replay, which has an outcome of its own; any, if
    /// faults are to strike.
    pub(crate) fn must_be_alone(&self, work: &Work) -> bool {
        work.retries > 0
            || self.processor.is_retry_topic(&work.delivery.record.topic)
            || self.processor.faults.any()
    }

    /// Deals with messages in one transaction. What another instance has by now is left to it.
    pub(crate) async fn settle_all(&self, mut works: Vec<Work>) -> Together {
        tokio::select! {
            () = self.status.not_halted() => {}
            () = self.shutdown.cancelled() => return Together::Settled { left_out: Vec::new() },
        }
        let mut running = Vec::with_capacity(works.len());
        works.retain(|work| {
            let begun = self.partitions.begin(&work.delivery.ticket);
            begun.map(|begun| running.push(begun)).is_some()
        });
        match self.attempt_all(&works).await {
            Ok(left_out) => {
                let mut rest = Vec::with_capacity(left_out.len());
                let mut left_out = left_out.into_iter().peekable();
                for (index, (work, running)) in works.into_iter().zip(running).enumerate() {
                    if left_out.next_if_eq(&index).is_some() {
                        rest.push(work);
                    } else {
                        work.history.calm_down();
                        running.finish();
                    }
                }
                Together::Settled { left_out: rest }
            }
            Err(failure) => {
                tracing::warn!(
                    error = &failure as &dyn std::error::Error,
                    messages = works.len(),
                    "a batch failed; each of its messages is handled by itself"
                );
                Together::Failed(works)
            }
        }
    }

    /// With caution: marked before, so that it is known among which of them one killed the process. Each of those is
    /// then handled by itself.
    async fn attempt_all(&self, works: &[Work]) -> Result<Vec<usize>, Failure> {
        let cautious = works.iter().filter(|work| work.history.is_cautious());
        let cautious: Vec<_> = cautious.map(|work| &work.delivery.record).collect();
        if cautious.is_empty() {
            return self.processor.attempt_all(works).await;
        }
        let _among_others = self.attempts.suspects.read().await;
        self.attempts.mark_all(&cautious).await?;
        let left_out = self.processor.attempt_all(works).await?;
        if let Err(error) = self.attempts.forget_all(&cautious).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "attempts that are over are still noted");
        }
        Ok(left_out)
    }

    /// Begins with a message: how often it was attempted before. Waits while the database is away.
    pub(crate) async fn work(&self, delivery: Delivery) -> Work {
        let mut wait = Wait::new(self);
        let history = loop {
            match self.attempts.history(delivery.ticket.assignment()).await {
                Ok(history) => break history,
                Err(error) if !wait.once_more().await => {
                    tracing::debug!(error = &error as &dyn std::error::Error, "ended meanwhile");
                    break Arc::default();
                }
                Err(_) => {}
            }
        };
        let span = self.processor.span(&delivery.record);
        let retries = history.of(delivery.record.offset).times;
        Work { delivery, retries, history, span }
    }

    /// Deals with a message. Waits while the database is away.
    pub(crate) async fn settle(&self, work: &mut Work) -> Settled {
        let span = work.span.clone();
        let settled = self.try_to_settle(work).instrument(span).await;
        if let Settled::Retry = settled {
            work.retries += 1;
        }
        settled
    }

    async fn try_to_settle(&self, work: &Work) -> Settled {
        let mut wait = Wait::new(self);
        loop {
            tokio::select! {
                () = self.status.not_halted() => {}
                () = self.shutdown.cancelled() => return Settled::Done,
            }
            let Some(running) = self.partitions.begin(&work.delivery.ticket) else {
                return Settled::Done;
            };
            let failure = if work.retries > self.processor.options.retries {
                // It had all its attempts, and its last one ended the process or the time for its dead letter.
                let before = work.history.of(work.delivery.record.offset);
                Err(Failure::transient(EndedWithoutAWord(before.reason)))
            } else {
                self.attempt(work).await
            };
            let Err(failure) = failure else {
                work.history.calm_down();
                running.finish();
                return Settled::Done;
            };
            match failure.class() {
                Class::Unavailable => {
                    // Not while waiting: a revocation must not wait for the database.
                    drop(running);
                    self.processor.instruments.unavailable();
                    if !wait.once_more().await {
                        return Settled::Done;
                    }
                }
                Class::Transient if work.retries < self.processor.options.retries => {
                    self.note_failure(work, &failure).await;
                    return Settled::Retry;
                }
                Class::Transient | Class::Permanent => {
                    work.history.calm_down();
                    self.bury(work, running, failure.reason()).await;
                    return Settled::Done;
                }
            }
        }
    }

    /// One attempt. With caution: marked before, and alone if it is a suspect.
    async fn attempt(&self, work: &Work) -> Result<(), Failure> {
        let record = &work.delivery.record;
        if !work.history.is_cautious() {
            self.processor.attempt(record, work.retries, work.retries > 0).await?;
            return Ok(());
        }
        let (_alone, _among_others);
        if work.retries > 0 {
            _alone = self.attempts.suspects.write().await;
        } else {
            _among_others = self.attempts.suspects.read().await;
        }
        self.attempts.note(record, work.retries + 1, None).await?;
        self.processor.attempt(record, work.retries, true).await?;
        Ok(())
    }

    async fn note_failure(&self, work: &Work, failure: &Failure) {
        let reason = failure.reason().message;
        let noted = self.attempts.note(&work.delivery.record, work.retries + 1, Some(&reason));
        if let Err(error) = noted.await {
            // It is counted here as long as this instance has it.
            tracing::warn!(error = &error as &dyn std::error::Error, "an attempt was not noted");
        }
    }

    async fn bury(&self, work: &Work, running: Running, reason: kafka::Reason) {
        let record = &work.delivery.record;
        Span::current().record("error.type", reason.exception.as_str());
        Span::current().record("otel.status_code", "ERROR");
        tracing::error!(
            reason = reason.message,
            topic = record.topic,
            partition = record.partition,
            offset = record.offset,
            event_id = record.text_header("ce_id"),
            correlation_id = record.text_header("ce_correlationid"),
            tenant_id = record.text_header("ce_tenantid"),
            "a message goes to the dead letters"
        );
        let why = reason.message.clone();
        if self.dead_letters.write(record, reason, &self.shutdown).await {
            sabotage::may_die("consumer.buried");
            self.processor.failed_again(record, &why).await;
            self.processor.instruments.dead_lettered();
            if work.retries > 0 || work.history.is_cautious() {
                self.forget(record).await;
            }
            running.finish();
        }
    }

    /// A row that stays is of no harm: its offset does not come again.
    async fn forget(&self, record: &Record) {
        if let Err(error) = self.attempts.forget(record).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "attempts that are over are still noted");
        }
    }
}

/// A message had all its attempts, and it is not known how the last one ended.
#[derive(Debug, thiserror::Error)]
#[error("it had all its attempts{}", .0.as_ref().map_or_else(
    || ", and the process ended during the last one".to_owned(),
    |reason| format!("; the last one failed: {reason}"),
))]
struct EndedWithoutAWord(Option<String>);

/// Waits for a database that is away, longer each time, and says so meanwhile.
struct Wait<'a> {
    settler: &'a Settler,
    next: Duration,
    said: Option<Held>,
}

impl<'a> Wait<'a> {
    fn new(settler: &'a Settler) -> Self {
        Self { settler, next: FIRST_WAIT, said: None }
    }

    /// False: shutdown came first.
    async fn once_more(&mut self) -> bool {
        self.said.get_or_insert_with(|| self.settler.status.wait());
        let wait = tokio::time::sleep(self.next);
        self.next = (self.next * 2).min(LONGEST_WAIT);
        self.settler.shutdown.run_until_cancelled(wait).await.is_some()
    }
}
