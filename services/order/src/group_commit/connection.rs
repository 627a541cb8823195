use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use sqlx::pool::PoolConnection;
use sqlx::{PgPool, Postgres};
use tokio::time::timeout;

/// How long statements that follow each other keep a connection. The pool checks each one that it
/// gets back, and replaces those that are older than a refusal of their server.
const KEPT: Duration = Duration::from_secs(1);
/// How long the pool may take to open a connection before another one is asked for.
const SLOW: Duration = Duration::from_millis(500);

/// A connection out of the pool. A shared statement leaves it to one that begins at its end: to
/// give it back and take it again would cost two round trips.
pub(super) struct Connection {
    pub(super) inner: PoolConnection<Postgres>,
    since: Instant,
}

impl Connection {
    /// Takes a connection out of the pool.
    ///
    /// Keeps its place in the queue of a busy pool. A pool that is opening a connection ignores
    /// those that become idle meanwhile, and its server may not answer, so it is asked once more.
    pub(super) async fn acquire(pool: &PgPool) -> sqlx::Result<Self> {
        let mut places = FuturesUnordered::new();
        places.push(pool.acquire());
        loop {
            if let Ok(Some(acquired)) = timeout(SLOW, places.next()).await {
                give_back(places);
                return acquired.map(|inner| Self { inner, since: Instant::now() });
            }
            if is_open(pool) {
                places.push(pool.acquire());
            }
        }
    }

    /// Returns the connection, unless it was kept for long enough and goes back to the pool.
    pub(super) fn kept(self) -> Option<Self> {
        (self.since.elapsed() < KEPT).then_some(self)
    }
}

/// Returns whether the pool has an idle connection, or may open another one.
fn is_open(pool: &PgPool) -> bool {
    pool.num_idle() > 0 || pool.size() < pool.options().get_max_connections()
}

/// Gives connections back to the pool once they are open. If the futures were dropped, so would be
/// connections that take long to open, and each attempt would begin again.
fn give_back<F>(places: FuturesUnordered<F>)
where
    F: Future<Output = sqlx::Result<PoolConnection<Postgres>>> + Send + 'static,
{
    if !places.is_empty() {
        tokio::spawn(places.for_each(|_| std::future::ready(())));
    }
}

#[cfg(test)]
mod tests {
    use sandbox::testing::TestSpace;
    use sqlx::postgres::PgPoolOptions;
    use tokio::time::sleep;

    use super::*;

    #[tokio::test]
    async fn a_place_in_the_queue_of_a_busy_pool_is_kept() {
        let space = TestSpace::new().await;
        let pool = PgPoolOptions::new().max_connections(1);
        let pool = pool.connect(space.database_url()).await.expect("a pool");
        let busy = pool.acquire().await.expect("a connection");
        let ours = tokio::spawn({
            let pool = pool.clone();
            async move { Connection::acquire(&pool).await }
        });
        sleep(SLOW / 5).await;
        // A reader that comes later and keeps its connection.
        let later = tokio::spawn(pool.acquire());
        sleep(SLOW * 2).await;
        drop(busy);
        let ours = timeout(SLOW * 4, ours).await.expect("in time").expect("no panic");
        assert!(ours.is_ok());
        drop(ours);
        assert!(later.await.expect("no panic").is_ok());
    }
}
