use std::time::{Duration, Instant};

use sqlx::Postgres;
use sqlx::pool::PoolConnection;

/// How long statements that follow each other keep a connection. The pool checks each one that it
/// gets back, and replaces those that are older than a refusal of their server.
const KEPT: Duration = Duration::from_secs(1);

/// A connection out of the pool. A shared statement leaves it to one that begins at its end: to
/// give it back and take it again would cost two round trips.
pub(super) struct Connection {
    pub(super) inner: PoolConnection<Postgres>,
    since: Instant,
}

impl Connection {
    /// Takes over a connection that the pool has just given.
    pub(super) fn new(inner: PoolConnection<Postgres>) -> Self {
        Self { inner, since: Instant::now() }
    }

    /// Returns the connection, unless it was kept for long enough and goes back to the pool.
    pub(super) fn kept(self) -> Option<Self> {
        (self.since.elapsed() < KEPT).then_some(self)
    }
}
