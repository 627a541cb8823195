//! What becomes of a message: its effect, a retry, or a dead letter.

use std::sync::Arc;
use std::time::Duration;

use kafka::Record;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span};

use crate::dead_letters::DeadLetters;
use crate::failure::Class;
use crate::instruments::Instruments;
use crate::lane::{Delivery, Work};
use crate::partitions::{Partitions, Running};
use crate::processor::Processor;
use crate::status::Status;

/// The wait after the database was away, doubled up to the second.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Shared by all lanes of a consumer.
pub(crate) struct Settler {
    pub(crate) processor: Processor,
    pub(crate) dead_letters: DeadLetters,
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

    /// A replay has an outcome of its own, and a fault is to strike single messages.
    pub(crate) fn must_be_alone(&self, record: &Record) -> bool {
        self.processor.faults.any() || self.processor.is_retry_topic(&record.topic)
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
        match self.processor.attempt_all(&works).await {
            Ok(left_out) => {
                let mut rest = Vec::with_capacity(left_out.len());
                let mut left_out = left_out.into_iter().peekable();
                for (index, (work, running)) in works.into_iter().zip(running).enumerate() {
                    if left_out.next_if_eq(&index).is_some() {
                        rest.push(work);
                    } else {
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

    pub(crate) fn work(&self, delivery: Delivery) -> Work {
        let span = self.processor.span(&delivery.record);
        Work { delivery, retries: 0, span }
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

    async fn try_to_settle(&self, Work { delivery, retries, .. }: &Work) -> Settled {
        let mut wait = FIRST_WAIT;
        let mut waiting = None;
        loop {
            tokio::select! {
                () = self.status.not_halted() => {}
                () = self.shutdown.cancelled() => return Settled::Done,
            }
            let Some(running) = self.partitions.begin(&delivery.ticket) else {
                return Settled::Done;
            };
            let Err(failure) = self.processor.attempt(&delivery.record, *retries).await else {
                running.finish();
                return Settled::Done;
            };
            match failure.class() {
                Class::Unavailable => {
                    // Not while waiting: a revocation must not wait for the database.
                    drop(running);
                    self.processor.instruments.unavailable();
                    if waiting.is_none() {
                        waiting = Some(self.status.wait());
                    }
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        () = self.shutdown.cancelled() => return Settled::Done,
                    }
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
                Class::Transient if *retries < self.processor.options.retries => {
                    return Settled::Retry;
                }
                Class::Transient | Class::Permanent => {
                    self.bury(delivery, running, failure.reason()).await;
                    return Settled::Done;
                }
            }
        }
    }

    async fn bury(&self, delivery: &Delivery, running: Running, reason: kafka::Reason) {
        let record = &delivery.record;
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
        let ignored = sabotage::seeded("dead-letter-failure-ignored");
        if ignored || self.dead_letters.write(record, reason, &self.shutdown).await {
            sabotage::may_die("consumer.buried");
            self.processor.failed_again(record, &why).await;
            self.processor.instruments.dead_lettered();
            running.finish();
        }
    }
}
