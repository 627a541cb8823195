#![doc = include_str!("../README.md")]

mod chunks;
mod classification;
mod limit;
mod migrations;
mod pool;
mod refusals;

pub use chunks::delete_in_chunks;
pub use classification::{ErrorClass, classify, classify_chain};
pub use limit::within;
pub use migrations::{DEFAULT_TABLE, Migrations};
pub use pool::{IDLE_IN_TRANSACTION, PoolOptions};
