//! A service as a whole: what it is made of, how it starts, how it ends.

mod builder;
mod migrate;
mod own_topics;
mod run;
mod running;
mod start;
mod tasks;

pub(crate) use builder::Erase;
pub use builder::{Parts, Service};
pub use run::main;
pub use running::RunningService;
pub use start::StartError;
