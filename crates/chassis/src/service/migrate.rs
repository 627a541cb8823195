use std::time::Duration;

use pg::{ErrorClass, Migrations};
use sqlx::PgPool;
use sqlx::migrate::MigrateError;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tokio::sync::watch;

use super::StartError;
use crate::admin::Startup;

const BACKOFF: Duration = Duration::from_secs(1);
/// Maximum wait for a connection, before the reason of its absence is determined.
const CONNECT: Duration = Duration::from_secs(2);
/// Maximum wait for a lock of a table, behind which all statements of the earlier release wait.
const LOCK: &str = "2s";
/// Time limit of the check for a session-sharing pooler.
const SESSIONS: Duration = Duration::from_secs(5);

/// Checks for a session-sharing pooler, applies the migrations of every crate, then the service's
/// own. Waits for a database that is unavailable or refuses, also because of missing permissions,
/// and reports the reason in `startup`.
///
/// Uses a connection of its own without a statement timeout, since a migration may take longer than
/// a statement of the service.
pub(super) async fn migrate(
    database: PgConnectOptions,
    own: Option<Migrations>,
    startup: &watch::Sender<Startup>,
) -> Result<(), StartError> {
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(CONNECT)
        .after_connect(|session, _| {
            Box::pin(async move {
                let limits = [("statement_timeout", "0"), ("lock_timeout", LOCK)];
                let limits = limits.map(|(name, value)| (name, value.to_owned()));
                pg::set_in_session(session, &limits).await
            })
        })
        .connect_lazy_with(database.clone());
    let migrating = Migrating { pool: pool.clone(), startup };
    // Migrations take a session lock, which such a pooler would hand over to another client.
    let migrated = match migrating.keeps_sessions(&database).await {
        Ok(true) => migrating.apply(own).await,
        Ok(false) => return Err(StartError::SharedSessions),
        Err(error) => Err(error),
    };
    pool.close().await;
    Ok(migrated?)
}

struct Migrating<'a> {
    pool: PgPool,
    startup: &'a watch::Sender<Startup>,
}

impl Migrating<'_> {
    /// Applies them one by one, so that applied and logged ones are not repeated after a failure of
    /// the database.
    async fn apply(&self, own: Option<Migrations>) -> Result<(), MigrateError> {
        let chassis = Migrations::new(sqlx::migrate!("./migrations"), "_chassis_migrations");
        self.when_available(|| chassis.run(&self.pool)).await?;
        self.when_available(|| outbox::migrate(&self.pool)).await?;
        self.when_available(|| consumer::migrate(&self.pool)).await?;
        self.when_available(|| jobs::migrate(&self.pool)).await?;
        match own {
            Some(own) => self.when_available(|| own.run(&self.pool)).await,
            None => Ok(()),
        }
    }

    async fn keeps_sessions(&self, database: &PgConnectOptions) -> Result<bool, MigrateError> {
        let ask = || {
            let database = database.clone();
            async move {
                // Boxed, since the future of two connection attempts is large.
                let keeps = pg::within(SESSIONS, Box::pin(pg::keeps_sessions(&database))).await;
                keeps.map_err(MigrateError::Execute)
            }
        };
        self.when_available(ask).await
    }

    /// Retries for as long as the database is unavailable or refuses, or a lock is held.
    async fn when_available<T, F>(&self, act: impl Fn() -> F) -> Result<T, MigrateError>
    where
        F: Future<Output = Result<T, MigrateError>>,
    {
        loop {
            let error = match act().await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            let error = self.explain(error).await;
            let class = pg::classify_chain(&error);
            let passes = matches!(
                class,
                Some(ErrorClass::Unavailable | ErrorClass::Denied | ErrorClass::Conflict)
            );
            if !passes {
                return Err(error);
            }
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "database unavailable, retrying"
            );
            self.startup.send_replace(Startup::Waiting(telemetry::error_chain(&error)));
            // A refused session stays unusable, and this pool does not replace it.
            if let Some(connection) = self.pool.try_acquire() {
                _ = connection.close().await;
            }
            tokio::time::sleep(BACKOFF).await;
        }
    }
}

impl Migrating<'_> {
    /// Replaces the pool's own error with the server's reason.
    async fn explain(&self, error: MigrateError) -> MigrateError {
        match error {
            MigrateError::Execute(error) => {
                MigrateError::Execute(pg::why_no_connection(&self.pool, error, CONNECT).await)
            }
            error => error,
        }
    }
}
