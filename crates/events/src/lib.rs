#![doc = include_str!("../README.md")]

mod ids;
mod invoice;
mod order;
mod order_event;
mod schemas;
mod topics;

pub use ids::{CreditNoteId, InvoiceId, OrderId};
pub use invoice::{InvoiceCredited, InvoiceIssued};
pub use order::{
    Item, Order, OrderCancelled, OrderCompleted, OrderCreated, OrderStatus, OrderUpdated,
};
pub use order_event::OrderEvent;
pub use schemas::{SCHEMAS, SchemaFile, example};
pub use topics::{
    INVOICE_CREDITED, INVOICE_ISSUED, ORDER_CANCELLED, ORDER_COMPLETED, ORDER_CREATED,
    ORDER_UPDATED, all_topics,
};
