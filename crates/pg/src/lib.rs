#![doc = include_str!("../README.md")]

mod address;
mod chunks;
mod classification;
mod connecting;
mod limit;
mod migrations;
mod pool;
mod pooler;
mod refusals;
mod session;
mod utc;

pub use address::{AddressIn, address_pattern, contains_address};
pub use chunks::{DeletedChunk, delete_in_chunks, delete_oldest, in_turn, sweep};
pub use classification::{ErrorClass, classify, classify_chain, is_refusal};
pub use connecting::why_no_connection;
pub use limit::{bounded, within};
pub use migrations::{DEFAULT_TABLE, Migrations};
pub use pool::{IDLE_IN_TRANSACTION, PoolOptions};
pub use pooler::keeps_sessions;
pub use session::set_in_session;
pub use utc::in_utc;
