use std::borrow::Cow;

use envelope::{Event, Schema, TenantId};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::{CreditNoteId, InvoiceId, OrderId};

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

/// Billing credited the invoice of a completed order that was cancelled, whole, with one credit note. Its version is the
/// cancelled order's.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct InvoiceCredited {
    /// Which credit note.
    pub credit_note_id: CreditNoteId,
    /// Counts credit notes from 1 without gaps, per tenant.
    pub number: i64,
    /// Which invoice it credits.
    pub invoice_id: InvoiceId,
    /// The number of that invoice.
    pub invoice_number: i64,
    /// Of which order.
    pub order_id: OrderId,
    /// Whose.
    pub tenant_id: TenantId,
    /// Whom to write to.
    pub customer_email: String,
    /// ISO 4217 alphabetic code.
    pub currency: String,
    /// The whole total of the invoice, in minor units.
    pub total: i64,
    /// When, UTC, by the database's clock.
    #[serde(with = "time::serde::rfc3339")]
    pub credited_at: OffsetDateTime,
}

macro_rules! invoice_event {
    ($name:ident, $event_type:literal, $schema:literal) => {
        impl Event for $name {
            const TYPE: &'static str = $event_type;
            const SCHEMA: &'static Schema = {
                static SCHEMA: Schema = Schema::new(include_str!($schema));
                &SCHEMA
            };

            fn subject(&self) -> Cow<'_, str> {
                self.order_id.to_string().into()
            }

            fn tenant(&self) -> Option<&str> {
                Some(self.tenant_id.as_str())
            }
        }
    };
}

invoice_event!(InvoiceIssued, "invoice.issued", "../../../schemas/invoice.issued/1.0.json");
invoice_event!(InvoiceCredited, "invoice.credited", "../../../schemas/invoice.credited/1.0.json");
