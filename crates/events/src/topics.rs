//! Topics of the shop. Each is owned by the one service that publishes to it.

use envelope::{Event, TopicSpec};

use crate::{
    InvoiceCredited, InvoiceIssued, OrderCancelled, OrderCompleted, OrderCreated, OrderUpdated,
};

/// Topic of [`OrderCreated`], owned by the order service.
pub const ORDER_CREATED: TopicSpec = TopicSpec::new(OrderCreated::TYPE);
/// Topic of [`OrderUpdated`], owned by the order service.
pub const ORDER_UPDATED: TopicSpec = TopicSpec::new(OrderUpdated::TYPE);
/// Topic of [`OrderCompleted`], owned by the order service.
pub const ORDER_COMPLETED: TopicSpec = TopicSpec::new(OrderCompleted::TYPE);
/// Topic of [`OrderCancelled`], owned by the order service.
pub const ORDER_CANCELLED: TopicSpec = TopicSpec::new(OrderCancelled::TYPE);
/// Topic of [`InvoiceIssued`], owned by the billing service.
pub const INVOICE_ISSUED: TopicSpec = TopicSpec::new(InvoiceIssued::TYPE);
/// Topic of [`InvoiceCredited`], owned by the billing service.
pub const INVOICE_CREDITED: TopicSpec = TopicSpec::new(InvoiceCredited::TYPE);

/// Returns every topic of events.
pub fn all_topics() -> [TopicSpec; 6] {
    [
        ORDER_CREATED,
        ORDER_UPDATED,
        ORDER_COMPLETED,
        ORDER_CANCELLED,
        INVOICE_ISSUED,
        INVOICE_CREDITED,
    ]
}
