#![doc = include_str!("../README.md")]

mod attributes;
mod compatibility;
mod envelope;
mod event;
mod ids;
mod json_format;
mod new_event;
mod read;
mod schema;
mod topic;

pub use attributes::{EnvelopeError, Ignored, MAX_TEXT_BYTES};
pub use compatibility::{Break, breaks};
pub use envelope::{Envelope, SPEC_VERSION};
pub use event::Event;
pub use ids::{CorrelationId, EventId, TenantId, TextIdError};
pub use json_format::{RawEvent, StructuredError, is_json};
pub use new_event::{Cause, EncodeError, Encoded, NewEvent};
pub use read::ReadError;
pub use schema::{Schema, SchemaError, major_of};
pub use topic::TopicSpec;
