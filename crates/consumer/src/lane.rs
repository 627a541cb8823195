//! A lane works on the messages of some keys, one after the other. A key that waits for its retry is parked,
//! with its later messages behind it; the others go on.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka::Record;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span};

use crate::dead_letters::DeadLetters;
use crate::failure::Class;
use crate::partitions::{Partitions, Running, Ticket};
use crate::processor::Processor;
use crate::status::Status;

/// The wait after the database was away, doubled up to the second.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// A message on its way to a lane.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) record: Record,
    pub(crate) ticket: Ticket,
}

impl Delivery {
    /// What keeps messages in order: the key, or the partition for those without one.
    fn key(&self) -> Vec<u8> {
        self.record.key.clone().unwrap_or_else(|| {
            format!("\0{}\0{}", self.record.topic, self.record.partition).into_bytes()
        })
    }
}

/// What all lanes of a consumer share.
pub(crate) struct Shared {
    pub(crate) processor: Processor,
    pub(crate) dead_letters: DeadLetters,
    pub(crate) partitions: Arc<Partitions>,
    pub(crate) status: Status,
    pub(crate) shutdown: CancellationToken,
}

pub(crate) struct Lane {
    shared: Arc<Shared>,
    queue: UnboundedReceiver<Delivery>,
    parked: HashMap<Vec<u8>, Parked>,
    /// When the head of which key is due. The number tells keys apart that are due at once.
    due: BTreeMap<(Instant, u64), Vec<u8>>,
    parkings: u64,
}

/// A message from its first attempt until it is settled.
struct Work {
    delivery: Delivery,
    retries: u32,
    /// Lasts as long: the attempts that failed are events on it.
    span: Span,
}

/// A key whose first message failed and waits.
struct Parked {
    head: Work,
    behind: VecDeque<Delivery>,
}

/// What became of a message.
enum Settled {
    /// It is dealt with, or no longer ours.
    Done,
    /// It is to be tried again later.
    Retry,
}

impl Lane {
    pub(crate) fn new(shared: Arc<Shared>, queue: UnboundedReceiver<Delivery>) -> Self {
        Self { shared, queue, parked: HashMap::new(), due: BTreeMap::new(), parkings: 0 }
    }

    /// Runs until shutdown or until nobody sends any more.
    pub(crate) async fn run(mut self) {
        let shutdown = self.shared.shutdown.clone();
        loop {
            let due = self.due.keys().next().map(|(due, _)| tokio::time::Instant::from_std(*due));
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                () = async { tokio::time::sleep_until(due.unwrap_or_else(tokio::time::Instant::now)).await },
                    if due.is_some() => self.retry_first().await,
                delivery = self.queue.recv() => match delivery {
                    Some(delivery) => self.take(delivery).await,
                    None => break,
                },
            }
        }
        let parked = i64::try_from(self.parked.len()).unwrap_or(i64::MAX);
        self.shared.processor.instruments.parked(-parked);
    }

    async fn take(&mut self, delivery: Delivery) {
        let key = delivery.key();
        if let Some(parked) = self.parked.get_mut(&key) {
            parked.behind.push_back(delivery);
            return;
        }
        let mut head = self.shared.work(delivery);
        if let Settled::Retry = self.shared.settle(&mut head).await {
            self.park(key, Parked { head, behind: VecDeque::new() });
        }
    }

    fn park(&mut self, key: Vec<u8>, parked: Parked) {
        let wait = self.shared.processor.options.backoff(parked.head.retries);
        self.parkings += 1;
        self.due.insert((Instant::now() + wait, self.parkings), key.clone());
        self.parked.insert(key, parked);
        self.shared.processor.instruments.parked(1);
    }

    /// Tries the key that is due, and what waits behind it until one fails.
    async fn retry_first(&mut self) {
        let Some((_, key)) = self.due.pop_first() else { return };
        let Some(mut parked) = self.parked.remove(&key) else { return };
        self.shared.processor.instruments.parked(-1);
        self.shared.processor.instruments.retried();
        loop {
            if let Settled::Retry = self.shared.settle(&mut parked.head).await {
                self.park(key, parked);
                return;
            }
            let Some(next) = parked.behind.pop_front() else { return };
            parked.head = self.shared.work(next);
        }
    }
}

impl Shared {
    fn work(&self, delivery: Delivery) -> Work {
        let span = self.processor.span(&delivery.record);
        Work { delivery, retries: 0, span }
    }

    /// Deals with a message. Waits while the database is away.
    async fn settle(&self, work: &mut Work) -> Settled {
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
            let failure = match self.processor.attempt(&delivery.record, *retries).await {
                Ok(outcome) => {
                    self.processor.instruments.settled(outcome);
                    running.finish();
                    return Settled::Done;
                }
                Err(failure) => failure,
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
