//! A transaction that begins in the round trip of the commit before it.

use std::time::{Duration, Instant};

use sqlx::{Postgres, Transaction};

/// Maximum age of a transaction that is used: `now()` must not be older in a handler.
const FRESH: Duration = Duration::from_millis(100);

/// Transactions of one connection, one after the other. The second needs no round trip to begin, and the pool does not
/// check the connection in between.
#[derive(Default)]
pub(crate) struct Chain {
    /// `true` if a further attempt follows at once.
    pub(crate) continues: bool,
    next: Option<(Transaction<'static, Postgres>, Instant)>,
}

impl Chain {
    /// Stores a transaction without statements, which has begun just now.
    pub(crate) fn put(&mut self, begun: Transaction<'static, Postgres>) {
        self.next = Some((begun, Instant::now()));
    }

    /// Takes the transaction, unless it has waited too long.
    pub(crate) fn take(&mut self) -> Option<Transaction<'static, Postgres>> {
        let (begun, since) = self.next.take()?;
        (since.elapsed() < FRESH).then_some(begun)
    }

    /// Returns the connection to the pool.
    pub(crate) fn end(&mut self) {
        self.next = None;
    }

    /// Returns whether a transaction waits.
    pub(crate) fn has_next(&self) -> bool {
        self.next.is_some()
    }
}
