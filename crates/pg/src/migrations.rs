use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{AssertSqlSafe, PgPool};

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
        Self { migrator, table }
    }

    /// Applies pending migrations.
    ///
    /// Unknown applied migrations are those of a newer release. They are kept, and logged once per
    /// call with table and versions.
    ///
    /// Call it on sessions without a statement timeout: a migration may take long, and so may the
    /// wait for another instance that migrates.
    ///
    /// # Errors
    /// Fails with [`MigrateError::VersionMismatch`] if an applied migration was edited, and with
    /// [`MigrateError::Execute`] if the database is unavailable.
    pub async fn run(&self, pool: &PgPool) -> Result<(), MigrateError> {
        self.migrator.run(pool).await?;
        let unknown = self.unknown_versions(pool).await?;
        if !unknown.is_empty() {
            tracing::warn!(
                table = self.table,
                versions = ?unknown,
                "database schema newer than this release"
            );
        }
        Ok(())
    }

    async fn unknown_versions(&self, pool: &PgPool) -> sqlx::Result<Vec<i64>> {
        // The table's name is a literal in the program.
        let query = format!("select version from {} order by version", self.table);
        let mut versions: Vec<i64> =
            sqlx::query_scalar(AssertSqlSafe(query)).fetch_all(pool).await?;
        versions.retain(|version| !self.migrator.version_exists(*version));
        Ok(versions)
    }
}
