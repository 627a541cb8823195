use sqlx::migrate::{Migrate, MigrateError, Migrator};
use sqlx::pool::PoolConnection;
use sqlx::{AssertSqlSafe, PgConnection, PgPool, Postgres};

use crate::session::set_in_session;

/// The migrations table of sqlx's own tools. A service keeps its own migrations there.
pub const DEFAULT_TABLE: &str = "_sqlx_migrations";

/// The migrations of one crate or service, with the table that records them.
///
/// ```no_run
/// # use sqlx::migrate::{MigrateError, Migrator};
/// # async fn example(pool: sqlx::PgPool, migrator: Migrator) -> Result<(), MigrateError> {
/// // `migrator` is `sqlx::migrate!("./migrations")`.
/// pg::Migrations::new(migrator, "_billing_migrations").run(&pool).await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Migrations {
    migrator: Migrator,
    table: &'static str,
}

impl Migrations {
    /// Creates the migrations from `sqlx::migrate!(..)`. Each crate has its own `table`, so that
    /// several crates and the service can number their migrations from one in the same database.
    pub fn new(mut migrator: Migrator, table: &'static str) -> Self {
        migrator.dangerous_set_table_name(table);
        // A release that is rolled back finds the migrations of the newer one.
        migrator.set_ignore_missing(true);
        // `run` takes the lock itself.
        migrator.set_locking(false);
        Self { migrator, table }
    }

    /// Applies pending migrations.
    ///
    /// Unknown applied migrations are those of a newer release. They are kept, and logged once per
    /// call with table and versions.
    ///
    /// A migration may take as long as it needs, whatever the `statement_timeout` of the pool's
    /// sessions. It waits for a lock of a table at most for their `lock_timeout`: every other
    /// statement on the table waits behind it.
    ///
    /// # Errors
    /// Fails with [`MigrateError::VersionMismatch`] if an applied migration was edited, and with
    /// [`MigrateError::Execute`] if the database is unavailable, or a lock is held for too long
    /// ([`ErrorClass::Conflict`](crate::ErrorClass::Conflict)). It may be called again.
    pub async fn run(&self, pool: &PgPool) -> Result<(), MigrateError> {
        let mut borrowed = BorrowedSession { session: pool.acquire().await?, is_as_before: false };
        let session = &mut *borrowed.session;
        let (statement, lock) = limits(session).await?;
        // Another instance may migrate for long.
        set_limits(session, "0", "0").await?;
        session.lock().await?;
        set_limits(session, "0", &lock).await?;
        self.apply(session).await?;
        session.unlock().await?;
        set_limits(session, &statement, &lock).await?;
        borrowed.is_as_before = true;
        Ok(())
    }

    async fn apply(&self, session: &mut PgConnection) -> Result<(), MigrateError> {
        self.migrator.run_direct(None, session, false).await?;
        let unknown = self.unknown_versions(session).await?;
        if !unknown.is_empty() {
            tracing::warn!(
                table = self.table,
                versions = ?unknown,
                "database schema newer than this release"
            );
        }
        Ok(())
    }

    async fn unknown_versions(&self, session: &mut PgConnection) -> sqlx::Result<Vec<i64>> {
        // The table's name is a literal in the program.
        let query = format!("select version from {} order by version", self.table);
        let mut versions: Vec<i64> =
            sqlx::query_scalar(AssertSqlSafe(query)).fetch_all(session).await?;
        versions.retain(|version| !self.migrator.version_exists(*version));
        Ok(versions)
    }
}

/// A session of a pool. It is closed unless it is given back as it was: it may have other limits,
/// and hold the lock of migrations.
struct BorrowedSession {
    session: PoolConnection<Postgres>,
    is_as_before: bool,
}

impl Drop for BorrowedSession {
    fn drop(&mut self) {
        if !self.is_as_before {
            self.session.close_on_drop();
        }
    }
}

/// Returns the session's `statement_timeout` and `lock_timeout`.
async fn limits(session: &mut PgConnection) -> sqlx::Result<(String, String)> {
    sqlx::query_as("select current_setting('statement_timeout'), current_setting('lock_timeout')")
        .fetch_one(session)
        .await
}

async fn set_limits(session: &mut PgConnection, statement: &str, lock: &str) -> sqlx::Result<()> {
    let limits = [("statement_timeout", statement), ("lock_timeout", lock)];
    set_in_session(session, &limits.map(|(name, value)| (name, value.to_owned()))).await
}
