//! A lane processes the messages of some keys in order: many in one transaction, or one after the
//! other after a failure. A key whose message failed is parked together with its later messages.
//! When its retry is due, it is attempted outside the lane, so that other keys continue.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::vec;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::coop::consume_budget;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant as TokioInstant, sleep_until};

use crate::message::{Queued, Taken};
use crate::partitions::Ticket;
use crate::pipeline::{Next, Pipeline, Read};
use crate::place::Place;

/// Maximum bytes of records that share a transaction, plus one record. Decoded and bound to a
/// statement they take several times as much.
const MAX_BATCH_BYTES: usize = 1280 * 1024;

pub(crate) struct Lane {
    pipeline: Arc<Pipeline>,
    queue: UnboundedReceiver<Queued>,
    /// Current maximum of messages that share a transaction: reduced after a failure.
    batch: usize,
    parked: HashMap<Key, Parked>,
    /// Due times of parked keys. The number distinguishes keys with the same due time.
    due: BTreeMap<(Instant, u64), Key>,
    parkings: u64,
    /// Running attempts at parked keys.
    attempts: JoinSet<(Key, Next)>,
    /// Kept from one attempt to the next while messages wait.
    place: Option<Place>,
}

type Key = Vec<u8>;

/// A parked key, whose first message waits or is being retried.
#[derive(Default)]
struct Parked {
    /// `None` while it is attempted.
    first: Option<Taken>,
    behind: VecDeque<Queued>,
}

/// The first message of a parked key.
enum FirstMessage {
    Read(Box<Taken>),
    Unread(Queued),
}

impl FirstMessage {
    /// Returns `true` if an earlier attempt at the message alone ended in a conflict.
    fn met_conflict(&self) -> bool {
        match self {
            Self::Read(taken) => taken.conflict.as_ref().is_some_and(|it| it.attempts > 0),
            Self::Unread(_) => false,
        }
    }
}

impl Lane {
    pub(crate) fn new(pipeline: Arc<Pipeline>, queue: UnboundedReceiver<Queued>) -> Self {
        Self {
            batch: pipeline.options.max_batch,
            pipeline,
            queue,
            parked: HashMap::new(),
            due: BTreeMap::new(),
            parkings: 0,
            attempts: JoinSet::new(),
            place: None,
        }
    }

    /// Runs until shutdown or until its queue is closed.
    pub(crate) async fn run(mut self) {
        let shutdown = self.pipeline.shutdown.clone();
        let mut arrived = Vec::new();
        let mut voided = self.pipeline.partitions.voided();
        loop {
            if self.queue.is_empty() {
                self.place = None;
            }
            let due = self.due.keys().next().map(|(due, _)| TokioInstant::from_std(*due));
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(attempted) = self.attempts.join_next() => self.attempted(attempted),
                Ok(()) = voided.changed() => self.drop_void(),
                () = async { sleep_until(due.unwrap_or_else(TokioInstant::now)).await },
                    if due.is_some() => self.attempt_due(),
                count = self.queue.recv_many(&mut arrived, self.batch) => match count {
                    0 => break,
                    _ => self.take(arrived.drain(..)).await,
                },
            }
        }
        self.place = None;
        // They end soon, because the shutdown cancels their waits.
        while self.attempts.join_next().await.is_some() {}
        let parked = i64::try_from(self.parked.len()).unwrap_or(i64::MAX);
        self.pipeline.instruments.parked(-parked);
    }

    /// Attempts messages in order, sharing transactions where possible.
    async fn take(&mut self, mut arrived: vec::Drain<'_, Queued>) {
        let (mut together, mut bytes) = (Vec::new(), 0);
        while let Some(queued) = arrived.next() {
            // Decoding never waits, and would keep other tasks, such as a lane that holds a lock,
            // from the processor.
            consume_budget().await;
            let Some(queued) = self.unless_parked(queued) else { continue };
            let taken = match self.pipeline.read(queued, &mut self.place).await {
                Read::Taken(taken) => *taken,
                Read::Revoked => continue,
                Read::Shutdown => return,
            };
            if taken.is_passed_over() {
                // It needs no attempt, so it need not wait for the messages before it.
                self.settle_one(taken, true).await;
            } else if self.pipeline.judge.must_be_alone(&taken) {
                self.settle(std::mem::take(&mut together), true).await;
                self.settle_one(taken, arrived.len() > 0).await;
            } else {
                bytes += taken.record().size();
                together.push(taken);
            }
            if bytes >= MAX_BATCH_BYTES {
                self.settle(std::mem::take(&mut together), arrived.len() > 0).await;
                bytes = 0;
            }
        }
        self.settle(together, false).await;
    }

    /// Attempts messages in one transaction. `continues` if others follow that have left the queue.
    async fn settle(&mut self, taken: Vec<Taken>, continues: bool) {
        if taken.is_empty() {
            return;
        }
        match self.attempt_here(taken, continues).await {
            Next::Apart(each) => {
                self.batch = (self.batch / 4).max(1);
                let mut each = each.into_iter();
                while let Some(taken) = each.next() {
                    self.settle_one(taken, continues || each.len() > 0).await;
                }
            }
            Next::Aside(each) => {
                self.batch = (self.batch / 4).max(1);
                for taken in each {
                    if let Some(taken) = self.unless_behind(taken) {
                        self.park(taken, Duration::ZERO);
                    }
                }
            }
            Next::Park(first, wait) => self.park(*first, wait),
            Next::Nothing => self.batch = (self.batch * 2).min(self.pipeline.options.max_batch),
        }
    }

    /// Attempts one message, unless an earlier message of its key has failed meanwhile.
    async fn settle_one(&mut self, taken: Taken, continues: bool) {
        if let Some(taken) = self.unless_behind(taken)
            && let Next::Park(first, wait) = self.attempt_here(vec![taken], continues).await
        {
            self.park(*first, wait);
        }
    }

    async fn attempt_here(&mut self, taken: Vec<Taken>, continues: bool) -> Next {
        let continues = continues || !self.queue.is_empty();
        self.pipeline.attempt(taken, &mut self.place, continues).await
    }

    fn unless_parked(&mut self, queued: Queued) -> Option<Queued> {
        let Some(parked) = self.parked_under(|| queued.key()) else { return Some(queued) };
        parked.behind.push_back(queued);
        None
    }

    fn unless_behind(&mut self, taken: Taken) -> Option<Taken> {
        let Some(parked) = self.parked_under(|| taken.key()) else { return Some(taken) };
        parked.behind.push_back(taken.queued);
        None
    }

    fn parked_under(&mut self, key: impl FnOnce() -> Key) -> Option<&mut Parked> {
        // The key is copied only while something is parked.
        if self.parked.is_empty() { None } else { self.parked.get_mut(&key()) }
    }

    /// Parks a key, or parks it again after an attempt. A message whose partition was released
    /// meanwhile is dropped: it will be read again and would wait behind itself.
    fn park(&mut self, first: Taken, wait: Duration) {
        let key = first.key();
        if !self.pipeline.partitions.has(first.ticket()) {
            self.continue_key(key);
            return;
        }
        self.parkings += 1;
        self.due.insert((Instant::now() + wait, self.parkings), key.clone());
        let parked = self.parked.entry(key).or_insert_with(|| {
            self.pipeline.instruments.parked(1);
            Parked::default()
        });
        parked.first = Some(first);
    }

    /// Drops waiting messages whose partition was revoked or released.
    fn drop_void(&mut self) {
        let pipeline = Arc::clone(&self.pipeline);
        let is_void = |ticket: &Ticket| !pipeline.partitions.has(ticket);
        let mut headless = HashSet::new();
        for (key, parked) in &mut self.parked {
            parked.behind.retain(|queued| !is_void(&queued.ticket));
            if parked.first.as_ref().is_some_and(|first| is_void(first.ticket())) {
                parked.first = None;
                headless.insert(key.clone());
            }
        }
        self.due.retain(|_, key| !headless.contains(key));
        for key in headless {
            self.continue_key(key);
        }
    }

    /// Starts an attempt at the due key, outside the lane.
    fn attempt_due(&mut self) {
        let Some((_, key)) = self.due.pop_first() else { return };
        let Some(first) = self.parked.get_mut(&key).and_then(|parked| parked.first.take()) else {
            return;
        };
        self.pipeline.instruments.retried();
        self.attempt(key, FirstMessage::Read(Box::new(first)));
    }

    fn attempt(&mut self, key: Key, first: FirstMessage) {
        let pipeline = Arc::clone(&self.pipeline);
        self.attempts.spawn(async move {
            let next = attempt_first(&pipeline, first).await;
            (key, next)
        });
    }

    /// Parks the key again, or continues with its later messages.
    fn attempted(&mut self, attempted: Result<(Key, Next), JoinError>) {
        let (key, next) = match attempted {
            Ok(attempted) => attempted,
            // Same as a panic in the lane: the run ends, and the next run receives the message
            // again.
            Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
            Err(_) => return,
        };
        match next {
            Next::Park(first, wait) => self.park(*first, wait),
            _ => self.continue_key(key),
        }
    }

    /// Continues with the later messages of a parked key, whose first message is settled or gone.
    fn continue_key(&mut self, key: Key) {
        let behind = self.parked.get_mut(&key).and_then(|parked| parked.behind.pop_front());
        if let Some(next) = behind {
            self.attempt(key, FirstMessage::Unread(next));
        } else if self.parked.remove(&key).is_some() {
            self.pipeline.instruments.parked(-1);
        }
    }
}

async fn attempt_first(pipeline: &Pipeline, first: FirstMessage) -> Next {
    let places = if first.met_conflict() { &pipeline.aside_again } else { &pipeline.aside };
    // The semaphore is never closed.
    let _permit = places.acquire().await;
    let taken = match first {
        FirstMessage::Read(taken) => *taken,
        FirstMessage::Unread(queued) => match pipeline.read(queued, &mut None).await {
            Read::Taken(taken) => *taken,
            Read::Revoked | Read::Shutdown => return Next::Nothing,
        },
    };
    pipeline.attempt(vec![taken], &mut None, false).await
}
