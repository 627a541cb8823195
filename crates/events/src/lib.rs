#![doc = include_str!("../README.md")]

mod ids;
mod invoice;
mod order;
mod order_event;
mod schemas;
mod topics;

pub use ids::{InvoiceId, OrderId};
pub use invoice::InvoiceIssued;
pub use order::{Item, Order, OrderCompleted, OrderCreated, OrderStatus, OrderUpdated};
pub use order_event::OrderEvent;
pub use schemas::{SCHEMAS, SchemaFile, example};
pub use topics::{INVOICE_ISSUED, ORDER_COMPLETED, ORDER_CREATED, ORDER_UPDATED, all_topics};
