#![doc = include_str!("../README.md")]

mod address;
mod chunks;
mod classification;
mod connecting;
mod limit;
mod migrations;
mod pool;
mod refusals;

pub use address::{AddressIn, address_pattern};
pub use chunks::{delete_in_chunks, in_turn, sweep};
pub use classification::{ErrorClass, classify, classify_chain, is_refusal};
pub use connecting::why_no_connection;
pub use limit::within;
pub use migrations::{DEFAULT_TABLE, Migrations};
pub use pool::{IDLE_IN_TRANSACTION, PoolOptions};
