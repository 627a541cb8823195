//! Flow steps: finished spans of flows, kept until they are stored in the service's own table.

mod attempt;
mod draft;
mod fields;
mod layer;
mod publication;
mod steps;

pub use attempt::note_failed_attempt;
pub(crate) use layer::FlowLayer;
pub use publication::{OutgoingEvent, Publication};
pub use steps::{FlowStep, FlowSteps};
