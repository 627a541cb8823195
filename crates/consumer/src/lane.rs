//! A lane keeps the messages of some keys in order: many in one transaction while all goes well, else one after the other.
//! A key that waits for its retry is parked, with its later messages behind it; the others go on.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant as TokioInstant;

use crate::message::{Queued, Taken};
use crate::pipeline::{Next, Pipeline};

pub(crate) struct Lane {
    pipeline: Arc<Pipeline>,
    queue: UnboundedReceiver<Queued>,
    /// How many messages may share a transaction by now: fewer after one that failed.
    batch: usize,
    parked: HashMap<Vec<u8>, Parked>,
    /// When the head of which key is due. The number tells keys apart that are due at once.
    due: BTreeMap<(Instant, u64), Vec<u8>>,
    parkings: u64,
}

/// A key whose first message failed and waits.
struct Parked {
    head: Taken,
    behind: VecDeque<Queued>,
}

impl Lane {
    pub(crate) fn new(pipeline: Arc<Pipeline>, queue: UnboundedReceiver<Queued>) -> Self {
        let batch = pipeline.max_batch();
        Self { pipeline, queue, batch, parked: HashMap::new(), due: BTreeMap::new(), parkings: 0 }
    }

    /// Runs until shutdown or until nobody sends any more.
    pub(crate) async fn run(mut self) {
        let shutdown = self.pipeline.shutdown().clone();
        let mut arrived = Vec::new();
        loop {
            let due = self.due.keys().next().map(|(due, _)| TokioInstant::from_std(*due));
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                () = async { tokio::time::sleep_until(due.unwrap_or_else(TokioInstant::now)).await },
                    if due.is_some() => self.retry_first().await,
                count = self.queue.recv_many(&mut arrived, self.batch) => match count {
                    0 => break,
                    _ => self.take(arrived.drain(..)).await,
                },
            }
        }
        let parked = i64::try_from(self.parked.len()).unwrap_or(i64::MAX);
        self.pipeline.count_parked(-parked);
    }

    /// In their order: what can share a transaction does.
    async fn take(&mut self, arrived: impl Iterator<Item = Queued>) {
        let mut together = Vec::new();
        for queued in arrived {
            let Some(queued) = self.unless_parked(queued) else { continue };
            let Some(taken) = self.pipeline.read(queued).await else { return };
            if taken.is_ignored() {
                // Nothing is done about it, so nothing need be done before it.
                self.settle_alone(taken).await;
            } else if self.pipeline.must_be_alone(&taken) {
                self.settle(std::mem::take(&mut together)).await;
                self.settle_alone(taken).await;
            } else {
                together.push(taken);
            }
        }
        self.settle(together).await;
    }

    async fn settle(&mut self, taken: Vec<Taken>) {
        match self.pipeline.attempt(taken).await {
            Next::Apart(each) => {
                self.batch = (self.batch / 4).max(1);
                for taken in each {
                    self.settle_alone(taken).await;
                }
            }
            Next::Park(head) => self.park(Parked { head: *head, behind: VecDeque::new() }),
            Next::Nothing => self.batch = (self.batch * 2).min(self.pipeline.max_batch()),
        }
    }

    /// Unless a message of the same key failed meanwhile.
    async fn settle_alone(&mut self, taken: Taken) {
        if let Some(parked) = self.parked.get_mut(&taken.key()) {
            parked.behind.push_back(taken.queued);
        } else if let Next::Park(head) = self.pipeline.attempt(vec![taken]).await {
            self.park(Parked { head: *head, behind: VecDeque::new() });
        }
    }

    fn unless_parked(&mut self, queued: Queued) -> Option<Queued> {
        // The key is copied only while something is parked.
        if self.parked.is_empty() {
            return Some(queued);
        }
        let Some(parked) = self.parked.get_mut(&queued.key()) else { return Some(queued) };
        parked.behind.push_back(queued);
        None
    }

    fn park(&mut self, parked: Parked) {
        let key = parked.head.key();
        let wait = self.pipeline.backoff(parked.head.retries);
        self.parkings += 1;
        self.due.insert((Instant::now() + wait, self.parkings), key.clone());
        self.parked.insert(key, parked);
        self.pipeline.count_parked(1);
    }

    /// Attempts the key that is due, and what waits behind it until one fails.
    async fn retry_first(&mut self) {
        let Some((_, key)) = self.due.pop_first() else { return };
        let Some(Parked { mut head, mut behind }) = self.parked.remove(&key) else { return };
        self.pipeline.count_parked(-1);
        self.pipeline.count_retry();
        loop {
            if let Next::Park(head) = self.pipeline.attempt(vec![head]).await {
                self.park(Parked { head: *head, behind });
                return;
            }
            let Some(next) = behind.pop_front() else { return };
            let Some(taken) = self.pipeline.read(next).await else { return };
            head = taken;
        }
    }
}
