use std::collections::HashMap;

use consumer::{Failure, Handler, Received};
use envelope::NewEvent;
use events::{CreditNoteId, InvoiceCredited, InvoiceId, OrderCancelled, OrderStatus};
use outbox::{PrepareError, Prepared};
use sqlx::PgConnection;

use super::check;
use super::issuing::{self, Due};
use crate::credit_notes::{self, Draft, Numbered};
use crate::store;

/// Credits the invoices of completed orders that were cancelled.
pub(crate) struct CreditInvoice;

impl Handler for CreditInvoice {
    type Event = OrderCancelled;

    async fn handle(
        &self,
        tx: &mut PgConnection,
        events: &[Received<OrderCancelled>],
    ) -> Result<(), Failure> {
        for event in events {
            check(&event.data.order, OrderStatus::Cancelled).map_err(Failure::permanent)?;
        }
        // An order that was cancelled while it was open has no invoice and needs none.
        let completed = |event: &&Received<OrderCancelled>| event.data.completed_at.is_some();
        let events: Vec<_> = events.iter().filter(completed).collect();
        if events.is_empty() {
            return Ok(());
        }
        let tenants: Vec<_> =
            events.iter().map(|event| event.data.order.tenant_id.as_str()).collect();
        store::lock_counters(tx, &tenants).await?;
        // If the cancellation arrives before the completion, the invoice is issued here, from the
        // order in the event, and the completion finds it.
        issuing::issue(tx, &events.iter().map(|event| due(event)).collect::<Vec<_>>()).await?;
        credit(tx, &events).await
    }
}

/// Returns the completed order of a cancellation, for its invoice.
fn due(event: &Received<OrderCancelled>) -> Due<'_> {
    // A completed order changes only by its cancellation, so it was completed one version before.
    let version = event.envelope.version.map(|version| version - 1).filter(|version| *version > 0);
    Due { order: &event.data.order, version, cause: event.cause() }
}

async fn credit(
    tx: &mut PgConnection,
    events: &[&Received<OrderCancelled>],
) -> Result<(), Failure> {
    let orders = events.iter().map(|event| &event.data.order);
    let drafts: Vec<_> = orders
        .map(|order| Draft {
            id: CreditNoteId::new(),
            order: order.order_id,
            tenant: &order.tenant_id,
        })
        .collect();
    let credited = credit_notes::credit(tx, &drafts).await?;
    let credited: HashMap<_, _> = credited.into_iter().map(|it| (it.id, it)).collect();
    let credits = drafts.iter().zip(events).filter_map(|(draft, event)| {
        // `None` if another event of the same cancellation was applied.
        Some(prepare_credited(event, credited.get(&draft.id.0)?))
    });
    let credits = credits.collect::<Result<Vec<_>, _>>().map_err(Failure::permanent)?;
    outbox::append(tx, &credits).await?;
    Ok(())
}

/// Returns the event of a credit note.
fn prepare_credited(
    event: &Received<OrderCancelled>,
    credited: &Numbered,
) -> Result<Prepared, PrepareError> {
    let order = &event.data.order;
    let data = InvoiceCredited {
        credit_note_id: CreditNoteId(credited.id),
        number: credited.number,
        invoice_id: InvoiceId(credited.invoice_id),
        invoice_number: credited.invoice_number,
        order_id: order.order_id,
        tenant_id: order.tenant_id.clone(),
        customer_email: credited.customer_email.clone(),
        currency: credited.currency.clone(),
        total: credited.total,
        credited_at: credited.credited_at,
    };
    let mut credit = NewEvent::new("/billing", data, event.cause());
    if let Some(version) = event.envelope.version {
        credit = credit.version(version);
    }
    outbox::prepare(credit)
}
