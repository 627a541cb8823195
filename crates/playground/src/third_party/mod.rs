//! A stand-in for systems that are not ours: an inventory and receivers of webhooks, as slow and as broken as they are told
//! to be. `server` runs it in this process, `process` as the program `third-party`.

mod process;
mod server;

pub(crate) use process::{THIRD_PARTY, ThirdPartyProcess};
pub use server::{Behaviour, Received, ThirdParty};
