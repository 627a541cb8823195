#![doc = include_str!("../README.md")]

mod defer;
mod deferrer;
mod held;
mod instruments;
mod layer;
mod scope;
mod task;

pub use defer::{Defer, NoDeferLayer, immediate};
pub use deferrer::{Deferrer, Drained, Options};
pub use held::Held;
pub use layer::{DeferBody, DeferLayer, DeferService};
pub use scope::{Ended, Scope};
pub use task::{Deferred, TaskResult};
