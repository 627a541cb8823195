use std::borrow::Cow;

use envelope::{Event, Schema, TenantId};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::{CreditNoteId, InvoiceId, OrderId};

/// Event: billing issued the invoice of a completed order. Its version is that of the completed
/// order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct InvoiceIssued {
    /// Id of the invoice.
    pub invoice_id: InvoiceId,
    /// Id of the order.
    pub order_id: OrderId,
    /// Owner of the order.
    pub tenant_id: TenantId,
    /// Number of the invoice. Counts from 1 without gaps, per tenant.
    pub number: i64,
    /// Recipient of the receipt.
    pub customer_email: String,
    /// ISO 4217 alphabetic code.
    pub currency: String,
    /// Total, in minor units.
    pub total: i64,
    /// Time of issue, in UTC, by the database's clock.
    #[serde(with = "time::serde::rfc3339")]
    pub issued_at: OffsetDateTime,
}

/// Event: billing credited the whole invoice of a completed order that was cancelled, with one
/// credit note. Its version is that of the cancelled order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct InvoiceCredited {
    /// Id of the credit note.
    pub credit_note_id: CreditNoteId,
    /// Number of the credit note. Counts from 1 without gaps, per tenant.
    pub number: i64,
    /// Id of the credited invoice.
    pub invoice_id: InvoiceId,
    /// Number of the credited invoice.
    pub invoice_number: i64,
    /// Id of the order.
    pub order_id: OrderId,
    /// Owner of the order.
    pub tenant_id: TenantId,
    /// Recipient of the credit note.
    pub customer_email: String,
    /// ISO 4217 alphabetic code.
    pub currency: String,
    /// Total of the invoice, in minor units.
    pub total: i64,
    /// Time of the credit, in UTC, by the database's clock.
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
