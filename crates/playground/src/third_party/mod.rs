//! Simulates external systems: an inventory and webhook receivers with configurable latency and
//! failures. `server` runs them in this process, `process` as the program `third-party`.

mod process;
mod server;

pub(crate) use process::{THIRD_PARTY, ThirdPartyProcess};
pub use server::{Behaviour, Received, ThirdParty};
