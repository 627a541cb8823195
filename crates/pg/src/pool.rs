use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection, PgConnection, PgPool};

use crate::limit::within;
use crate::refusals;
use crate::session::set_in_session;

/// Time after which Postgres ends a session that is idle inside a transaction, so that a frozen
/// instance does not block its successor. A handler that runs inside a transaction must take less.
pub const IDLE_IN_TRANSACTION: Duration = Duration::from_secs(15);

const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_CONNECTIONS: u32 = 16;

/// A connection that was idle for longer than this is pinged before use.
const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// Time limit of such a ping. After a network partition all idle connections are dead.
const PING: Duration = Duration::from_secs(1);

/// Time limit of the check of a connection that returns to the pool, which first waits for the
/// statement of a dropped future. A connection that was lost silently must not keep its place.
const RELEASE: Duration = Duration::from_secs(11);

/// Ends the transaction that a dropped `begin` left open. In sqlx 0.9 a transaction is rolled back
/// only once its `begin` has been answered; the next user's statements would join it and never be
/// committed.
async fn end_transaction(connection: &mut PgConnection) -> sqlx::Result<()> {
    // A statement without effect: `begin_with` fails if no transaction is open after it.
    match connection.begin_with("-- released").await {
        Err(sqlx::Error::BeginFailed) => Ok(()),
        left_open => left_open?.rollback().await,
    }
}

/// Options of a pool whose sessions have time limits: 10 s for a statement, 5 s for a lock, and [15
/// s](IDLE_IN_TRANSACTION) of idle time inside a transaction.
///
/// ```no_run
/// # fn example() -> sqlx::Result<()> {
/// use std::time::Duration;
///
/// let database = "postgres://billing@localhost/billing".parse()?;
/// let pool = pg::PoolOptions::new("billing")
///     .max_connections(8)
///     .statement_timeout(Duration::from_secs(30))
///     .connect_lazily(database);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct PoolOptions {
    application_name: String,
    max_connections: u32,
    acquire_timeout: Duration,
    statement_timeout: Duration,
    settings: Vec<(&'static str, String)>,
}

impl PoolOptions {
    /// Creates the default options. `application_name` is shown in `pg_stat_activity`.
    pub fn new(application_name: &str) -> Self {
        Self {
            application_name: application_name.to_owned(),
            max_connections: MAX_CONNECTIONS,
            acquire_timeout: ACQUIRE_TIMEOUT,
            statement_timeout: STATEMENT_TIMEOUT,
            settings: Vec::new(),
        }
    }

    /// Sets the maximum number of connections, 16 by default.
    #[must_use]
    pub fn max_connections(mut self, max_connections: u32) -> Self {
        self.max_connections = max_connections;
        self
    }

    /// Sets the maximum time that a caller waits for a connection, 5 s by default. After that it
    /// fails with [`sqlx::Error::PoolTimedOut`].
    #[must_use]
    pub fn acquire_timeout(mut self, acquire_timeout: Duration) -> Self {
        self.acquire_timeout = acquire_timeout;
        self
    }

    /// Sets the time after which Postgres cancels a statement, 10 s by default.
    #[must_use]
    pub fn statement_timeout(mut self, statement_timeout: Duration) -> Self {
        self.statement_timeout = statement_timeout;
        self
    }

    /// Adds a setting of every session of the pool.
    #[must_use]
    pub fn setting(mut self, name: &'static str, value: &str) -> Self {
        self.settings.push((name, value.to_owned()));
        self
    }

    /// Creates the pool. A connection that is older than the server's last refusal of a session
    /// (see [`crate::classify`]) is replaced before it is used again. The pool connects when a
    /// connection is first needed, so an unavailable server does not fail this call.
    pub fn connect_lazily(self, database: PgConnectOptions) -> PgPool {
        let milliseconds = |duration: Duration| duration.as_millis().to_string();
        let mut settings = vec![
            ("idle_in_transaction_session_timeout", milliseconds(IDLE_IN_TRANSACTION)),
            ("lock_timeout", milliseconds(LOCK_TIMEOUT)),
            ("statement_timeout", milliseconds(self.statement_timeout)),
        ];
        settings.extend(self.settings);
        let settings: Arc<[_]> = settings.into();
        PgPoolOptions::new()
            .max_connections(self.max_connections)
            .acquire_timeout(self.acquire_timeout)
            // A ping before every use costs a round trip per statement. A connection that was lost
            // within the last second is noticed when it is used, and costs one retry.
            .test_before_acquire(false)
            .after_connect(move |connection, _| {
                let settings = Arc::clone(&settings);
                Box::pin(async move { set_in_session(connection, &settings).await })
            })
            .before_acquire(|connection, meta| {
                Box::pin(async move {
                    if refusals::was_within(meta.age) {
                        return Ok(false);
                    }
                    let is_trusted = meta.idle_for < TRUSTED_FOR;
                    Ok(is_trusted || within(PING, connection.ping()).await.is_ok())
                })
            })
            .after_release(|connection, _| {
                Box::pin(async move {
                    within(RELEASE, end_transaction(connection)).await.map(|()| true)
                })
            })
            .connect_lazy_with(database.application_name(&self.application_name))
    }
}
