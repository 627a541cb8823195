#![doc = include_str!("../README.md")]

mod event;
mod surroundings;
mod tracing;

pub use event::{at, event_of, with_new_id};
pub use surroundings::{PATIENCE, Testbed};
pub use tracing::traced;
