use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::event::{Event, SchemaVersion};
use crate::{InvoiceId, OrderId, TenantId};

/// Billing issued the one invoice of a completed order. Its version is the completed order's.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct InvoiceIssued {
    /// Which invoice.
    pub invoice_id: InvoiceId,
    /// Of which order.
    pub order_id: OrderId,
    /// Whose.
    pub tenant_id: TenantId,
    /// Counts from 1 without gaps, per tenant.
    pub number: i64,
    /// Whom to send the receipt to.
    pub customer_email: String,
    /// ISO 4217 alphabetic code.
    pub currency: String,
    /// Minor units.
    pub total: i64,
    /// When, UTC, by the database's clock.
    #[serde(with = "time::serde::rfc3339")]
    pub issued_at: OffsetDateTime,
}

impl Event for InvoiceIssued {
    const TYPE: &'static str = "invoice.issued";
    const SCHEMA: SchemaVersion = SchemaVersion { major: 1, minor: 0 };

    fn order_id(&self) -> OrderId {
        self.order_id
    }

    fn tenant_id(&self) -> &TenantId {
        &self.tenant_id
    }
}
