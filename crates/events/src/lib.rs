#![doc = include_str!("../README.md")]

mod envelope;
mod event;
mod ids;
mod invoice;
mod order;
mod schema;

pub use envelope::{Cause, Encoded, Envelope, EnvelopeError, Message, SPEC_VERSION};
pub use event::{Event, SchemaVersion};
pub use ids::{CorrelationId, EventId, InvoiceId, OrderId, TenantId, TextIdError};
pub use invoice::InvoiceIssued;
pub use order::{Item, Order, OrderCompleted, OrderCreated, OrderStatus, OrderUpdated};
pub use schema::{SCHEMAS, SchemaFile, SchemaViolation, check};
