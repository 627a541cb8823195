use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;
use tracing::Span;

use super::claims::{Claim, Claims};
use super::{WriteError, Written};
use crate::store::{Change, Locks};

/// Maximum number of waiting changes.
const MAX_WAITING: usize = 1024;
/// Maximum bytes of waiting changes.
const MAX_WAITING_BYTES: usize = 16 * 1024 * 1024;
/// Maximum number of waiting changes that have the order or the key of a new one, while that order
/// or key is in use.
const MAX_WAITING_FOR_ONE: usize = 32;
/// Maximum number of concurrent shared statements. The second one begins only while the first one
/// is slow, or if a full batch waits: two that take turns have half as many changes each, and cost
/// more.
const SHARED_AT_ONCE: usize = 2;
/// Maximum number of changes in a statement.
const MAX_CHANGES: usize = 64;
/// Maximum bytes of changes in a statement. A connection keeps buffers as large as its largest
/// statement.
const MAX_BATCH_BYTES: usize = 512 * 1024;

/// Number of a change, in order of arrival.
pub(super) type Ticket = u64;

/// How a change is executed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// In a statement with others, which does not wait for locks.
    Shared,
    /// Alone, after a shared statement has left the change out because of a lock, for which this
    /// one waits.
    LeftOut,
    /// Alone, after Postgres has rejected its shared statement, most likely because of another
    /// change in it. Queued separately from [`Self::LeftOut`], because it mostly meets no lock and
    /// would wait behind those that do.
    Refused,
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::Shared, Self::LeftOut, Self::Refused];

    pub(super) fn locks(self) -> Locks {
        match self {
            Self::Shared => Locks::Pass,
            Self::LeftOut | Self::Refused => Locks::Wait,
        }
    }
}

/// A change that waits or is executed.
pub(super) struct WaitingChange {
    ticket: Ticket,
    pub(super) change: Arc<Change>,
    pub(super) claim: Claim,
    bytes: usize,
    pub(super) since: Instant,
    /// The span in which the caller waits.
    pub(super) span: Span,
    outcome: oneshot::Sender<Written>,
}

impl WaitingChange {
    /// Sends the outcome to the caller, which is then the only holder of the change.
    pub(super) fn settle(self, written: Written) {
        drop(self.change);
        _ = self.outcome.send(written); // Fails if the request has ended.
    }
}

/// The changes that wait for one kind of statement, and the number of statements being executed.
#[derive(Default)]
struct QueueOfKind {
    waiting: BTreeMap<Ticket, WaitingChange>,
    running: usize,
}

/// The queue of waiting changes.
pub(super) struct Queue {
    /// Indexed by [`Kind`]. The claims of changes that are to be executed alone are held.
    queues: [QueueOfKind; Kind::ALL.len()],
    /// Number of running shared statements that are slow.
    slow: usize,
    /// Maximum number of changes of each kind that are executed alone at once.
    max_alone: usize,
    claims: Claims,
    bytes: usize,
    next: Ticket,
}

impl Queue {
    /// Creates a queue that executes at most `max_alone` changes of each kind alone at once.
    pub(super) fn new(max_alone: usize) -> Self {
        let queues = Kind::ALL.map(|_| QueueOfKind::default());
        Self { queues, slow: 0, max_alone, claims: Claims::default(), bytes: 0, next: 0 }
    }

    /// Returns the number of waiting changes.
    pub(super) fn len(&self) -> usize {
        self.queues.iter().map(|it| it.waiting.len()).sum()
    }

    /// Adds a change to be executed with others. Fails if too many are waiting.
    pub(super) fn push(
        &mut self,
        change: Arc<Change>,
        outcome: oneshot::Sender<Written>,
        span: Span,
    ) -> Result<Ticket, WriteError> {
        let bytes = change.bytes();
        if self.len() >= MAX_WAITING || self.bytes + bytes > MAX_WAITING_BYTES {
            return Err(WriteError::Full);
        }
        let (ticket, claim, since) = (self.next, self.claims.of(&change), Instant::now());
        if !self.claims.are_free(claim) && self.waiting_for(claim) >= MAX_WAITING_FOR_ONE {
            return Err(WriteError::Full);
        }
        let waiting = WaitingChange { ticket, change, claim, bytes, since, span, outcome };
        self.next += 1;
        self.bytes += bytes;
        self.of_kind(Kind::Shared).waiting.insert(ticket, waiting);
        Ok(ticket)
    }

    /// Returns the number of waiting changes that have the order or the key of a claim.
    fn waiting_for(&self, claim: Claim) -> usize {
        let all = self.queues.iter().flat_map(|it| it.waiting.values());
        all.filter(|it| it.claim.meets(claim)).count()
    }

    /// Removes a change. Returns `false` if it is not waiting.
    pub(super) fn withdraw(&mut self, ticket: Ticket) -> bool {
        for kind in Kind::ALL {
            if let Some(waiting) = self.of_kind(kind).waiting.remove(&ticket) {
                self.forget(kind, &waiting);
                return true;
            }
        }
        false
    }

    /// Releases the resources of a change that was removed from the queue of this kind.
    fn forget(&mut self, kind: Kind, waiting: &WaitingChange) {
        self.bytes -= waiting.bytes;
        if kind != Kind::Shared {
            self.claims.release(waiting.claim);
        }
    }

    /// Returns whether to begin a statement. If so, it is counted until [`Self::end`].
    pub(super) fn begin(&mut self, kind: Kind) -> bool {
        let (has_work, max) = match kind {
            Kind::Shared => {
                let mut waiting = self.queues[kind as usize].waiting.values();
                let max = if self.slow > 0 || self.has_full_batch() { SHARED_AT_ONCE } else { 1 };
                (waiting.any(|it| self.claims.are_free(it.claim)), max)
            }
            Kind::LeftOut | Kind::Refused => {
                (!self.of_kind(kind).waiting.is_empty(), self.max_alone)
            }
        };
        let queue = self.of_kind(kind);
        let begins = has_work && queue.running < max;
        queue.running += usize::from(begins);
        begins
    }

    /// Returns whether as many changes as fit into a statement may be executed now.
    fn has_full_batch(&self) -> bool {
        let waiting = &self.queues[Kind::Shared as usize].waiting;
        if waiting.len() < MAX_CHANGES && self.bytes < MAX_BATCH_BYTES {
            return false;
        }
        let free = waiting.values().filter(|it| self.claims.are_free(it.claim)).take(MAX_CHANGES);
        let (changes, bytes) =
            free.fold((0, 0), |(changes, bytes), it| (changes + 1, bytes + it.bytes));
        changes == MAX_CHANGES || bytes >= MAX_BATCH_BYTES
    }

    /// Counts a running shared statement as slow, so that another one may begin, until
    /// [`Self::end_slow`].
    pub(super) fn begin_slow(&mut self) {
        self.slow += 1;
    }

    /// Uncounts a slow shared statement.
    pub(super) fn end_slow(&mut self) {
        self.slow -= 1;
    }

    /// Uncounts a statement.
    pub(super) fn end(&mut self, kind: Kind) {
        self.of_kind(kind).running -= 1;
    }

    /// Takes the changes of a statement. Their claims are held from now on.
    pub(super) fn take(&mut self, kind: Kind) -> Vec<WaitingChange> {
        let tickets = match kind {
            Kind::Shared => self.claim_batch(),
            Kind::LeftOut | Kind::Refused => {
                self.of_kind(kind).waiting.keys().copied().take(1).collect()
            }
        };
        let queue = self.of_kind(kind);
        let taken = tickets.iter().filter_map(|ticket| queue.waiting.remove(ticket));
        let taken: Vec<_> = taken.collect();
        self.bytes -= taken.iter().map(|it| it.bytes).sum::<usize>();
        taken
    }

    /// Claims the oldest changes that may share a statement.
    fn claim_batch(&mut self) -> Vec<Ticket> {
        let (mut tickets, mut bytes) = (Vec::new(), 0);
        for (ticket, waiting) in &self.queues[Kind::Shared as usize].waiting {
            if !self.claims.are_free(waiting.claim) {
                continue;
            }
            bytes += waiting.bytes;
            if !tickets.is_empty() && bytes > MAX_BATCH_BYTES {
                break;
            }
            self.claims.hold(waiting.claim);
            tickets.push(*ticket);
            if tickets.len() == MAX_CHANGES {
                break;
            }
        }
        tickets
    }

    /// Queues a change that a statement left out, to be executed alone. It keeps its claims, unless
    /// its caller is gone.
    pub(super) fn set_apart(&mut self, waiting: WaitingChange, kind: Kind) {
        if waiting.outcome.is_closed() {
            self.claims.release(waiting.claim);
        } else {
            self.bytes += waiting.bytes;
            self.of_kind(kind).waiting.insert(waiting.ticket, waiting);
        }
    }

    /// Removes all changes that wait for one kind of statement.
    pub(super) fn clear(&mut self, kind: Kind) -> Vec<WaitingChange> {
        let all = std::mem::take(&mut self.of_kind(kind).waiting);
        let all: Vec<_> = all.into_values().collect();
        for waiting in &all {
            self.forget(kind, waiting);
        }
        all
    }

    /// Releases the claims of changes that were executed.
    pub(super) fn release(&mut self, claims: impl IntoIterator<Item = Claim>) {
        for claim in claims {
            self.claims.release(claim);
        }
    }

    fn of_kind(&mut self, kind: Kind) -> &mut QueueOfKind {
        &mut self.queues[kind as usize]
    }
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use chassis::Answer;
    use envelope::{Cause, CorrelationId, TenantId};
    use events::Item;
    use time::OffsetDateTime;

    use super::*;
    use crate::order::Draft;

    fn change(lines: usize) -> Arc<Change> {
        let item = Item { sku: "x".repeat(64), quantity: 1, unit_price: 1 };
        let draft = Draft {
            customer_email: "ada@example.com".into(),
            currency: "EUR".into(),
            items: vec![item; lines],
        };
        let tenant = TenantId::new("acme").expect("an id");
        let cause = Cause::new(CorrelationId::generate());
        let placed = draft.place(tenant, OffsetDateTime::UNIX_EPOCH, cause);
        let (order, created) = placed.expect("an order");
        let events = vec![outbox::prepare(created).expect("an event")];
        let answer = Answer::new(StatusCode::CREATED, &()).expect("an answer");
        Arc::new(Change { order, is_new: true, events, answer, key: None })
    }

    impl Queue {
        fn add(&mut self, change: &Arc<Change>) -> Result<Ticket, WriteError> {
            self.push(Arc::clone(change), oneshot::channel().0, Span::none())
        }
    }

    #[test]
    fn what_waits_is_bounded_in_number_and_in_bytes() {
        let (small, large) = (change(1), change(100));
        let (mut many, mut long) = (Queue::new(4), Queue::new(4));
        for _ in 0..MAX_WAITING {
            many.add(&small).expect("room");
        }
        assert!(matches!(many.add(&small), Err(WriteError::Full)));
        assert!(many.withdraw(7) && !many.withdraw(7));
        many.add(&small).expect("room for one");

        let added = (0..MAX_WAITING).filter(|_| long.add(&large).is_ok()).count();
        assert_eq!(added, MAX_WAITING_BYTES / large.bytes());
        assert!(added < MAX_WAITING);
        assert_eq!(long.clear(Kind::Shared).len(), added);
        assert_eq!((long.len(), long.bytes), (0, 0));
    }

    #[test]
    fn an_order_that_is_executed_for_long_does_not_fill_the_queue() {
        let mut queue = Queue::new(4);
        let (order, other) = (change(1), change(1));
        queue.add(&order).expect("room");
        assert_eq!(queue.take(Kind::Shared).len(), 1);
        for _ in 0..MAX_WAITING_FOR_ONE {
            queue.add(&order).expect("room");
        }
        assert!(matches!(queue.add(&order), Err(WriteError::Full)));
        queue.add(&other).expect("room for another one");
    }

    #[test]
    fn changes_of_a_refused_statement_do_not_wait_behind_those_that_wait_for_locks() {
        let mut queue = Queue::new(1);
        let receivers: Vec<_> = [Kind::LeftOut, Kind::LeftOut, Kind::Refused]
            .map(|kind| {
                let (outcome, receiver) = oneshot::channel();
                queue.push(change(1), outcome, Span::none()).expect("room");
                let waiting = queue.take(Kind::Shared).remove(0);
                queue.set_apart(waiting, kind);
                receiver
            })
            .into();
        assert!(queue.begin(Kind::LeftOut) && !queue.begin(Kind::LeftOut));
        assert!(queue.begin(Kind::Refused));
        assert_eq!(queue.take(Kind::Refused).len(), 1);
        drop(receivers);
    }

    #[test]
    fn a_batch_ends_at_a_number_and_at_bytes() {
        let mut queue = Queue::new(4);
        let small: Vec<_> = (0..MAX_CHANGES + 2).map(|_| change(1)).collect();
        for small in &small {
            queue.add(small).expect("room");
        }
        assert_eq!(queue.take(Kind::Shared).len(), MAX_CHANGES);
        assert_eq!(queue.take(Kind::Shared).len(), 2);
        let large: Vec<_> = (0..MAX_CHANGES).map(|_| change(100)).collect();
        for large in &large {
            queue.add(large).expect("room");
        }
        let bytes = large[0].bytes();
        assert_eq!(queue.take(Kind::Shared).len(), MAX_BATCH_BYTES / bytes);
    }

    #[test]
    fn a_second_shared_statement_begins_only_while_the_first_one_is_slow() {
        let mut queue = Queue::new(4);
        queue.add(&change(1)).expect("room");
        assert!(queue.begin(Kind::Shared));
        assert_eq!(queue.take(Kind::Shared).len(), 1);
        queue.add(&change(1)).expect("room");
        assert!(!queue.begin(Kind::Shared), "it gathers more changes");
        queue.begin_slow();
        assert!(queue.begin(Kind::Shared), "what delays the first one delays it for a moment only");
        assert!(!queue.begin(Kind::Shared), "at most two");
        queue.end(Kind::Shared);
        queue.end_slow();
        assert!(!queue.begin(Kind::Shared), "the second one is not slow");
        queue.end(Kind::Shared);
        assert!(queue.begin(Kind::Shared));
    }

    #[test]
    fn a_second_shared_statement_begins_for_a_full_batch_that_may_be_executed() {
        let mut queue = Queue::new(4);
        let held = [change(1), change(1)];
        for held in &held {
            queue.add(held).expect("room");
        }
        assert!(queue.begin(Kind::Shared));
        assert_eq!(queue.take(Kind::Shared).len(), 2);
        for held in held.iter().cycle().take(2 * MAX_WAITING_FOR_ONE) {
            queue.add(held).expect("room");
        }
        queue.add(&change(1)).expect("room");
        assert!(!queue.begin(Kind::Shared), "all but one wait for an order");
        for _ in 1..MAX_CHANGES {
            queue.add(&change(1)).expect("room");
        }
        assert!(queue.begin(Kind::Shared));
        assert_eq!(queue.take(Kind::Shared).len(), MAX_CHANGES);
    }

    #[test]
    fn an_order_is_claimed_until_its_statement_alone_has_ended() {
        let mut queue = Queue::new(1);
        let (order, other) = (change(1), change(1));
        let (outcome, _receiver) = oneshot::channel();
        queue.push(Arc::clone(&order), outcome, Span::none()).expect("room");
        queue.add(&order).expect("room");
        let mut first = queue.take(Kind::Shared);
        assert_eq!(first.len(), 1);
        assert!(!queue.begin(Kind::Shared), "the second one has to wait");
        queue.add(&other).expect("room");
        assert!(queue.begin(Kind::Shared), "another order has not");
        assert_eq!(queue.take(Kind::Shared)[0].change.order, other.order);
        queue.end(Kind::Shared);

        queue.set_apart(first.remove(0), Kind::LeftOut);
        assert!(!queue.begin(Kind::Shared));
        assert!(queue.begin(Kind::LeftOut) && !queue.begin(Kind::LeftOut));
        let alone = queue.take(Kind::LeftOut);
        assert!(!queue.begin(Kind::Shared));
        queue.release(alone.iter().map(|it| it.claim));
        assert!(queue.begin(Kind::Shared));
    }
}
