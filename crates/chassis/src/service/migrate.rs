use std::time::Duration;

use pg::{ErrorClass, Migrations};
use sqlx::PgPool;
use sqlx::migrate::MigrateError;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tokio::sync::watch;

use super::StartError;
use crate::admin::Startup;

const BACKOFF: Duration = Duration::from_secs(1);
/// How long a connection is waited for, before it is found out why there is none.
const CONNECT: Duration = Duration::from_secs(2);
/// How long it may take to find out whether sessions last.
const SESSIONS: Duration = Duration::from_secs(5);

/// Checks that sessions last, applies the migrations of every crate, then the service's own. Waits for a database that is
/// unavailable or refuses, also for missing rights, and says why in `startup`.
///
/// Uses a connection without the time limits of the service's sessions: a migration may take longer than a statement.
pub(super) async fn migrate(
    database: PgConnectOptions,
    own: Option<Migrations>,
    startup: &watch::Sender<Startup>,
) -> Result<(), StartError> {
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(CONNECT)
        .connect_lazy_with(database.clone());
    let migrating = Migrating { pool: pool.clone(), startup };
    // Migrations take a lock of the session, which another connection would be left with.
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
    /// Applies them one by one, so that what is done and logged is not done again if the database fails in between.
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
                // Boxed, since two connections that are being made are large.
                let keeps = pg::within(SESSIONS, Box::pin(pg::keeps_sessions(&database))).await;
                keeps.map_err(MigrateError::Execute)
            }
        };
        self.when_available(ask).await
    }

    /// Retries for as long as the database is unavailable or refuses, or something else holds a lock.
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
            // A session that was refused stays useless, and this pool does not replace it by itself.
            if let Some(connection) = self.pool.try_acquire() {
                _ = connection.close().await;
            }
            tokio::time::sleep(BACKOFF).await;
        }
    }
}

impl Migrating<'_> {
    /// Replaces the pool's own error by what the server refuses with.
    async fn explain(&self, error: MigrateError) -> MigrateError {
        match error {
            MigrateError::Execute(error) => {
                MigrateError::Execute(pg::why_no_connection(&self.pool, error, CONNECT).await)
            }
            error => error,
        }
    }
}
