use envelope::{Event, TenantId};

use crate::{
    InvoiceCredited, InvoiceIssued, OrderCancelled, OrderCompleted, OrderCreated, OrderId,
    OrderUpdated,
};

/// An event about an order, of any type.
pub trait OrderEvent: Event {
    /// Returns the order, which is the subject of the event.
    fn order_id(&self) -> OrderId;
    /// Returns the tenant whose order it is.
    fn tenant_id(&self) -> &TenantId;
}

macro_rules! order_events {
    ($($name:ident($($field:tt)?))*) => {$(
        impl OrderEvent for $name {
            fn order_id(&self) -> OrderId {
                self $(.$field)? .order_id
            }

            fn tenant_id(&self) -> &TenantId {
                &self $(.$field)? .tenant_id
            }
        }
    )*};
}

order_events! {
    OrderCreated(0)
    OrderUpdated(0)
    OrderCompleted(order)
    OrderCancelled(order)
    InvoiceIssued()
    InvoiceCredited()
}
