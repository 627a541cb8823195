use std::collections::HashMap;

use consumer::{Failure, Handler, Received};
use envelope::NewEvent;
use events::{InvoiceId, InvoiceIssued, OrderCompleted, OrderStatus};
use outbox::{PrepareError, Prepared};
use sqlx::PgConnection;

use crate::store::{self, Numbered};

/// An event that contradicts itself.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Contradiction(&'static str);

fn check(event: &Received<OrderCompleted>) -> Result<(), Contradiction> {
    let order = &event.data.order;
    if order.status != OrderStatus::Completed {
        Err(Contradiction("the order is not completed"))
    } else if order.total <= 0 {
        Err(Contradiction("the total is not positive"))
    } else {
        Ok(())
    }
}

/// Issues the invoices of completed orders, and says so.
pub(crate) struct IssueInvoice;

impl Handler for IssueInvoice {
    type Event = OrderCompleted;

    async fn handle(
        &self,
        tx: &mut PgConnection,
        events: &[Received<OrderCompleted>],
    ) -> Result<(), Failure> {
        let mut drafts = Vec::with_capacity(events.len());
        for event in events {
            check(event).map_err(Failure::permanent)?;
            drafts.push((InvoiceId::new(), &event.data.order));
        }
        let issued = store::issue(tx, &drafts).await?;
        let issued: HashMap<_, _> = issued.into_iter().map(|it| (it.id, it)).collect();
        let told = drafts.iter().zip(events).filter_map(|((id, _), event)| {
            // None: another event told of the same completion.
            Some(tell(event, issued.get(&id.0)?))
        });
        // An order that makes no valid invoice never will, so it is for an operator to see.
        let told = told.collect::<Result<Vec<_>, _>>().map_err(Failure::permanent)?;
        outbox::append(tx, &told).await?;
        Ok(())
    }
}

/// Returns the event that tells of an invoice.
fn tell(event: &Received<OrderCompleted>, issued: &Numbered) -> Result<Prepared, PrepareError> {
    let order = &event.data.order;
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
    let mut told = NewEvent::new("/billing", data, event.cause());
    if let Some(version) = event.envelope.version {
        told = told.version(version);
    }
    outbox::prepare(told)
}
