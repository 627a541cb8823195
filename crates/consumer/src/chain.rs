//! A transaction that begins in the round trip of the commit before it.

use std::time::{Duration, Instant};

use sqlx::{Postgres, Transaction};

/// Maximum age of a transaction that is used: `now()` must not be older in a handler.
const FRESH: Duration = Duration::from_millis(100);
/// How long a connection is kept. The pool replaces connections that are old, or older than the
/// last refusal of the server, only when they return to it.
const KEPT: Duration = Duration::from_secs(1);

/// Transactions of one connection, one after the other. The second needs no round trip to begin,
/// and the pool does not check the connection in between.
#[derive(Default)]
pub(crate) struct Chain {
    /// `true` if a further attempt follows at once.
    pub(crate) continues: bool,
    /// When the connection was taken from the pool.
    acquired: Option<Instant>,
    next: Option<(Transaction<'static, Postgres>, Instant)>,
}

impl Chain {
    /// Takes the transaction that has begun, unless it has waited too long.
    pub(crate) fn take(&mut self) -> Option<Transaction<'static, Postgres>> {
        let (begun, since) = self.next.take()?;
        (since.elapsed() < FRESH).then_some(begun)
    }

    /// Starts a chain, on a connection that was just taken from the pool.
    pub(crate) fn start(&mut self) {
        self.acquired = Some(Instant::now());
    }

    /// Returns whether a commit begins a further transaction.
    pub(crate) fn goes_on(&self) -> bool {
        self.continues && self.acquired.is_some_and(|acquired| acquired.elapsed() < KEPT)
    }

    /// Stores a transaction without statements, which has begun just now.
    pub(crate) fn put(&mut self, begun: Transaction<'static, Postgres>) {
        self.next = Some((begun, Instant::now()));
    }

    /// Returns the connection to the pool.
    pub(crate) fn end(&mut self) {
        self.next = None;
    }

    /// Returns whether a transaction has begun.
    pub(crate) fn has_begun(&self) -> bool {
        self.next.is_some()
    }
}
