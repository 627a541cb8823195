//! A service: its parts, its start, and its shutdown.

mod builder;
mod migrate;
mod own_topics;
mod run;
mod running;
mod start;
mod tasks;
mod unserved;

pub(crate) use builder::Erase;
pub use builder::{Parts, Service};
pub use run::main;
pub use running::RunningService;
pub use start::StartError;
