#![doc = include_str!("../README.md")]

mod aside;
mod cluster;
mod depth;
mod flow;
mod horizon;
mod in_flight;
mod instruments;
mod pause;
mod pauses;
mod prepared;
mod reasons;
mod refusal;
mod relay;
mod retries;
mod row;
mod scan;
mod sender;
mod session;
mod shards;
mod status;
mod topic;
mod window;

pub use flow::{WaitingEvent, WaitingEvents, waiting_of_flow};
pub use prepared::{Columns, PrepareError, Prepared, SHARDS, append, prepare, prepare_for};
pub use relay::{Relay, RelayWaker};
pub use status::{PausedTopic, RelayStatus};

use sqlx::PgPool;
use sqlx::migrate::MigrateError;

/// Creates or updates the table `outbox` in the service's own database.
///
/// # Errors
/// Fails with [`MigrateError`] if the database is unavailable or an applied migration was edited.
/// If the future is dropped, complete migrations stay applied, and it may be called again.
pub async fn migrate(pool: &PgPool) -> Result<(), MigrateError> {
    pg::Migrations::new(sqlx::migrate!("./migrations"), "_outbox_migrations").run(pool).await
}
