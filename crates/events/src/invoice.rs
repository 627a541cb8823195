use std::borrow::Cow;

use envelope::{Event, Schema, TenantId};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::{InvoiceId, OrderId};

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

static ISSUED: Schema = Schema::new(include_str!("../../../schemas/invoice.issued/1.0.json"));

impl Event for InvoiceIssued {
    const TYPE: &'static str = "invoice.issued";
    const SCHEMA: &'static Schema = &ISSUED;

    fn subject(&self) -> Cow<'_, str> {
        self.order_id.to_string().into()
    }

    fn tenant(&self) -> Option<&str> {
        Some(self.tenant_id.as_str())
    }
}
