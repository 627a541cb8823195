//! Issues and publishes invoices, for completions and cancellations.

use std::collections::HashMap;

use consumer::Failure;
use envelope::{Cause, NewEvent};
use events::{InvoiceId, InvoiceIssued, Order};
use outbox::{PrepareError, Prepared};
use sqlx::PgConnection;

use crate::store::{self, Numbered};

/// A completed order that needs an invoice, or has one already.
pub(crate) struct Due<'a> {
    pub(crate) order: &'a Order,
    /// Version of the order when it was completed, if the event has one.
    pub(crate) version: Option<i64>,
    pub(crate) cause: Cause,
}

/// Issues the missing invoices of orders, and publishes them.
pub(crate) async fn issue(tx: &mut PgConnection, due: &[Due<'_>]) -> Result<(), Failure> {
    let drafts: Vec<_> = due.iter().map(|due| (InvoiceId::new(), due.order)).collect();
    let issued = store::issue(tx, &drafts).await?;
    let issued: HashMap<_, _> = issued.into_iter().map(|it| (it.id, it)).collect();
    let events = drafts.iter().zip(due).filter_map(|((id, _), due)| {
        // `None` if the order has an invoice already.
        Some(prepare_issued(due, issued.get(&id.0)?))
    });
    // An order without a valid invoice will never have one, so it becomes a dead letter for an
    // operator.
    let events = events.collect::<Result<Vec<_>, _>>().map_err(Failure::permanent)?;
    outbox::append(tx, &events).await?;
    Ok(())
}

/// Returns the event of an invoice.
fn prepare_issued(due: &Due<'_>, issued: &Numbered) -> Result<Prepared, PrepareError> {
    let order = due.order;
    let data = InvoiceIssued {
        invoice_id: InvoiceId(issued.id),
        order_id: order.order_id,
        tenant_id: order.tenant_id.clone(),
        number: issued.number,
        customer_email: order.customer_email.clone(),
        currency: order.currency.clone(),
        total: order.total,
        issued_at: issued.issued_at,
    };
    let mut event = NewEvent::new("/billing", data, due.cause.clone());
    if let Some(version) = due.version {
        event = event.version(version);
    }
    outbox::prepare(event)
}
