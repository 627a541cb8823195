//! Group commit: changes of concurrent requests share a statement, and with it a round trip, a transaction and a commit.
//!
//! While a statement is executed, further changes wait and make up the next one, so that a change that comes alone is
//! written at once. No statement has two changes of one order or two uses of one key, and none waits for a lock that another
//! transaction holds: what meets one is written by a statement of its own, so that nobody else waits for it. So is each
//! change of a statement that fails.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use events::OrderId;
use outbox::RelayWaker;
use pg::ErrorClass;
use sqlx::PgPool;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::store::{self, Change, Locks, Outcome};

/// How many statements are executed at once: the next one is prepared while the last one is committed.
const AT_ONCE: usize = 2;
/// How many changes share a statement.
const MAX_CHANGES: usize = 64;

/// What became of a change. Several may have the error of their statement.
pub(crate) type Written = Result<Outcome, Arc<sqlx::Error>>;

/// Writes changes of orders. Clones share the statements.
#[derive(Clone)]
pub(crate) struct Writer {
    shared: Arc<Shared>,
}

struct Shared {
    pool: PgPool,
    wake: RelayWaker,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// How many statements are executed.
    running: usize,
}

/// A change, and who waits for its outcome.
struct Waiting {
    change: Arc<Change>,
    told: oneshot::Sender<Written>,
}

impl Writer {
    /// Creates a writer, which wakes the relay after its commits.
    pub(crate) fn new(pool: PgPool, wake: RelayWaker) -> Self {
        Self { shared: Arc::new(Shared { pool, wake, queue: Mutex::default() }) }
    }

    /// Writes a change, with others that are written at the same time. It is written although this future is dropped.
    pub(crate) async fn write(&self, change: Arc<Change>) -> Written {
        let (told, outcome) = oneshot::channel();
        self.shared.queue().waiting.push_back(Waiting { change, told });
        begin(&self.shared);
        outcome.await.unwrap_or_else(|_| Err(Arc::new(sqlx::Error::WorkerCrashed)))
    }
}

/// Begins a statement with the changes that wait, unless enough are executed.
fn begin(shared: &Arc<Shared>) {
    // The runtime may have ended, when a statement is dropped.
    let Ok(runtime) = Handle::try_current() else { return };
    let batch = {
        let mut queue = shared.queue();
        if queue.running == AT_ONCE || queue.waiting.is_empty() {
            return;
        }
        queue.running += 1;
        queue.take()
    };
    let turn = Turn(Arc::clone(shared));
    runtime.spawn(async move {
        turn.0.write_together(batch).await;
        drop(turn);
    });
}

/// The turn of one statement. However it ends, it is the next one's.
struct Turn(Arc<Shared>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.queue().running -= 1;
        begin(&self.0);
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn write_together(self: &Arc<Self>, batch: Vec<Waiting>) {
        let changes: Vec<_> = batch.iter().map(|it| Arc::clone(&it.change)).collect();
        let outcomes = match store::write(&self.pool, &changes, Locks::Pass).await {
            Ok(outcomes) => outcomes,
            // The server answered, so nothing is written, and the fault may be that of one of them.
            Err(error) if pg::classify(&error) != ErrorClass::Unavailable => {
                vec![None; batch.len()]
            }
            // It is not known whether they are written, and a statement of its own would fare no better.
            Err(error) => return tell_all(batch, &Arc::new(error)),
        };
        drop(changes);
        self.wake.wake();
        for (waiting, outcome) in batch.into_iter().zip(outcomes) {
            match outcome {
                Some(outcome) => waiting.tell(Ok(outcome)),
                None => drop(tokio::spawn(Arc::clone(self).write_alone(waiting))),
            }
        }
    }

    async fn write_alone(self: Arc<Self>, waiting: Waiting) {
        let change = std::slice::from_ref(&waiting.change);
        let written = store::write(&self.pool, change, Locks::Wait).await;
        self.wake.wake();
        // One change, one outcome; and whether it is locked is known by now.
        let written = written.map(|outcomes| outcomes.first().copied().flatten());
        waiting.tell(match written {
            Ok(outcome) => Ok(outcome.unwrap_or(Outcome::Overtaken)),
            Err(error) => Err(Arc::new(error)),
        });
    }
}

fn tell_all(batch: Vec<Waiting>, error: &Arc<sqlx::Error>) {
    for waiting in batch {
        waiting.tell(Err(Arc::clone(error)));
    }
}

impl Waiting {
    /// Gives the outcome to whom it concerns, who is then the only one to hold the change.
    fn tell(self, written: Written) {
        drop(self.change);
        _ = self.told.send(written); // The request has ended.
    }
}

impl Queue {
    /// Takes the changes that come first and may share a statement.
    fn take(&mut self) -> Vec<Waiting> {
        let mut batch = Vec::new();
        let mut claims = Claims::default();
        let mut later = Vec::new();
        while batch.len() < MAX_CHANGES
            && let Some(waiting) = self.waiting.pop_front()
        {
            if claims.claim(&waiting.change) {
                batch.push(waiting);
            } else {
                later.push(waiting);
            }
        }
        for waiting in later.into_iter().rev() {
            self.waiting.push_front(waiting);
        }
        batch
    }
}

/// What no two changes of a statement may have in common.
#[derive(Default)]
struct Claims {
    orders: HashSet<OrderId>,
    keys: HashSet<(String, String)>,
}

impl Claims {
    /// Returns `false` if another change has claimed the same order or key.
    fn claim(&mut self, change: &Change) -> bool {
        let state = &change.order.state;
        let key =
            change.key.as_ref().map(|key| (state.tenant_id.to_string(), key.as_str().to_owned()));
        if self.orders.contains(&state.order_id)
            || key.as_ref().is_some_and(|key| self.keys.contains(key))
        {
            return false;
        }
        self.orders.insert(state.order_id);
        self.keys.extend(key);
        true
    }
}
