#![doc = include_str!("../README.md")]

mod flow;
mod instruments;
mod prepared;
mod relay;
mod row;
mod sender;
mod shards;

pub use flow::{WaitingEvent, WaitingEvents, waiting_of_flow};
pub use prepared::{Columns, PrepareError, Prepared, SHARDS, append, prepare, prepare_for};
pub use relay::{Relay, RelayWaker};

use sqlx::PgPool;
use sqlx::migrate::MigrateError;

/// Creates or updates the table `outbox` in the service's own database.
pub async fn migrate(pool: &PgPool) -> Result<(), MigrateError> {
    pg::Migrations::new(sqlx::migrate!("./migrations"), "_outbox_migrations").run(pool).await
}
