use std::time::Duration;

use pg::Migrations;
use sqlx::PgPool;
use sqlx::migrate::MigrateError;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

const BACKOFF: Duration = Duration::from_secs(1);

/// Applies the migrations of every crate, then the service's own. Waits for an unavailable database.
///
/// Uses a connection without the time limits of the service's sessions: a migration may take longer than a statement.
pub(super) async fn migrate(
    database: PgConnectOptions,
    own: Option<Migrations>,
) -> Result<(), MigrateError> {
    let pool = PgPoolOptions::new().max_connections(1).connect_lazy_with(database);
    let migrated = apply(pool.clone(), own).await;
    pool.close().await;
    migrated
}

/// Applies them one by one, so that what is done and logged is not done again if the database fails in between.
async fn apply(pool: PgPool, own: Option<Migrations>) -> Result<(), MigrateError> {
    let chassis = Migrations::new(sqlx::migrate!("./migrations"), "_chassis_migrations");
    when_available(|| chassis.run(&pool)).await?;
    when_available(|| outbox::migrate(&pool)).await?;
    when_available(|| consumer::migrate(&pool)).await?;
    when_available(|| jobs::migrate(&pool)).await?;
    match own {
        Some(own) => when_available(|| own.run(&pool)).await,
        None => Ok(()),
    }
}

/// Retries for as long as the database is unavailable.
async fn when_available<F>(migrate: impl Fn() -> F) -> Result<(), MigrateError>
where
    F: Future<Output = Result<(), MigrateError>>,
{
    loop {
        match migrate().await {
            Err(MigrateError::Execute(error)) if pg::is_unavailable(&error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "database unavailable, retrying"
                );
                tokio::time::sleep(BACKOFF).await;
            }
            ended => return ended,
        }
    }
}
