//! A lane works on the messages of some keys: many in one transaction while all goes well, else one after the other.
//! A key that waits for its retry is parked, with its later messages behind it; the others go on.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use kafka::Record;
use tokio::sync::mpsc::UnboundedReceiver;
use tracing::Span;

use crate::attempts::History;
use crate::partitions::Ticket;
use crate::settler::{Settled, Settler, Together};

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

/// A message from its first attempt until it is settled.
pub(crate) struct Work {
    pub(crate) delivery: Delivery,
    /// Attempts that failed, or did not end.
    pub(crate) retries: u32,
    /// Of its partition.
    pub(crate) history: Arc<History>,
    /// Lasts as long: the attempts that failed are events on it.
    pub(crate) span: Span,
}

pub(crate) struct Lane {
    settler: Arc<Settler>,
    queue: UnboundedReceiver<Delivery>,
    /// How many messages may share a transaction by now: fewer after one that failed.
    batch: usize,
    parked: HashMap<Vec<u8>, Parked>,
    /// When the head of which key is due. The number tells keys apart that are due at once.
    due: BTreeMap<(Instant, u64), Vec<u8>>,
    parkings: u64,
}

/// A key whose first message failed and waits.
struct Parked {
    head: Work,
    behind: VecDeque<Delivery>,
}

impl Lane {
    pub(crate) fn new(settler: Arc<Settler>, queue: UnboundedReceiver<Delivery>) -> Self {
        let batch = settler.max_batch();
        Self { settler, queue, batch, parked: HashMap::new(), due: BTreeMap::new(), parkings: 0 }
    }

    /// Runs until shutdown or until nobody sends any more.
    pub(crate) async fn run(mut self) {
        let shutdown = self.settler.shutdown.clone();
        let mut taken = Vec::new();
        loop {
            let due = self.due.keys().next().map(|(due, _)| tokio::time::Instant::from_std(*due));
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                () = async { tokio::time::sleep_until(due.unwrap_or_else(tokio::time::Instant::now)).await },
                    if due.is_some() => self.retry_first().await,
                count = self.queue.recv_many(&mut taken, self.batch) => match count {
                    0 => break,
                    _ => self.take(taken.drain(..)).await,
                },
            }
        }
        let parked = i64::try_from(self.parked.len()).unwrap_or(i64::MAX);
        self.settler.instruments().parked(-parked);
    }

    /// In their order: what can share a transaction does.
    async fn take(&mut self, deliveries: impl Iterator<Item = Delivery>) {
        let mut together = Vec::new();
        for delivery in deliveries {
            if let Some(parked) = self.parked.get_mut(&delivery.key()) {
                parked.behind.push_back(delivery);
                continue;
            }
            let work = self.settler.work(delivery).await;
            if self.settler.must_be_alone(&work) {
                self.settle_together(std::mem::take(&mut together)).await;
                self.settle_each([work]).await;
            } else {
                together.push(work);
            }
        }
        self.settle_together(together).await;
    }

    async fn settle_together(&mut self, works: Vec<Work>) {
        if works.len() < 2 {
            self.settle_each(works).await;
            self.batch = (self.batch * 2).min(self.settler.max_batch());
            return;
        }
        match self.settler.settle_all(works).await {
            Together::Settled { left_out } => {
                self.batch = (self.batch * 2).min(self.settler.max_batch());
                self.settle_each(left_out).await;
            }
            Together::Failed(works) => {
                self.batch = (self.batch / 4).max(1);
                self.settle_each(works).await;
            }
        }
    }

    async fn settle_each(&mut self, works: impl IntoIterator<Item = Work>) {
        for mut head in works {
            let key = head.delivery.key();
            if let Some(parked) = self.parked.get_mut(&key) {
                parked.behind.push_back(head.delivery);
            } else if let Settled::Retry = self.settler.settle(&mut head).await {
                self.park(key, Parked { head, behind: VecDeque::new() });
            }
        }
    }

    fn park(&mut self, key: Vec<u8>, parked: Parked) {
        let wait = self.settler.backoff(parked.head.retries);
        self.parkings += 1;
        self.due.insert((Instant::now() + wait, self.parkings), key.clone());
        self.parked.insert(key, parked);
        self.settler.instruments().parked(1);
    }

    /// Tries the key that is due, and what waits behind it until one fails.
    async fn retry_first(&mut self) {
        let Some((_, key)) = self.due.pop_first() else { return };
        let Some(mut parked) = self.parked.remove(&key) else { return };
        self.settler.instruments().parked(-1);
        self.settler.instruments().retried();
        loop {
            if let Settled::Retry = self.settler.settle(&mut parked.head).await {
                self.park(key, parked);
                return;
            }
            let Some(next) = parked.behind.pop_front() else { return };
            parked.head = self.settler.work(next).await;
        }
    }
}
