#![doc = include_str!("../README.md")]

mod chunks;
mod classification;
mod migrations;
mod pool;

pub use chunks::delete_in_chunks;
pub use classification::is_unavailable;
pub use migrations::{DEFAULT_TABLE, Migrations};
pub use pool::{IDLE_IN_TRANSACTION, PoolOptions};
