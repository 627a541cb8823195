//! Flow steps in the service's own table: written in the background, kept for a day, found by any
//! id of a flow.

mod budget;
mod instruments;
mod recorder;
mod ring;
mod rows;
mod store;
mod timestamp;

pub(crate) use recorder::Recorder;
pub(crate) use store::{FlowStore, FoundFlows};
pub(crate) use timestamp::rfc3339;
