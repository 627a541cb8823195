use consumer::{Failure, Handler, Received};
use events::{InvoiceId, InvoiceIssued, Message, OrderCompleted, OrderStatus};
use sqlx::PgConnection;

use crate::store::{self, Issued};

/// An event that contradicts itself.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Contradiction(&'static str);

fn check(event: &Received<OrderCompleted>) -> Result<(), Contradiction> {
    let (envelope, order) = (&event.envelope, &event.data.order);
    if order.status != OrderStatus::Completed {
        Err(Contradiction("the order is not completed"))
    } else if order.total <= 0 {
        Err(Contradiction("the total is not positive"))
    } else if order.tenant_id != envelope.tenant_id {
        Err(Contradiction("the tenant is not the envelope's"))
    } else if order.order_id.to_string() != envelope.subject {
        Err(Contradiction("the order is not the envelope's subject"))
    } else {
        Ok(())
    }
}

/// Issues the invoice of a completed order, and says so.
pub(crate) struct IssueInvoice;

impl Handler for IssueInvoice {
    type Event = OrderCompleted;

    async fn handle(
        &self,
        tx: &mut PgConnection,
        event: &Received<OrderCompleted>,
    ) -> Result<(), Failure> {
        let order = &event.data.order;
        check(event).map_err(Failure::permanent)?;
        let id = InvoiceId::new();
        let Some(Issued { number, issued_at }) = store::issue(tx, id, order).await? else {
            return Ok(()); // Another event told of the same completion.
        };
        let issued = InvoiceIssued {
            invoice_id: id,
            order_id: order.order_id,
            tenant_id: order.tenant_id.clone(),
            number,
            customer_email: order.customer_email.clone(),
            currency: order.currency.clone(),
            total: order.total,
            issued_at,
        };
        let message = Message::new("/billing", event.envelope.version, issued, event.cause());
        // An order that makes no valid invoice never will, so it is for an operator to see.
        let prepared = outbox::prepare(message).map_err(Failure::permanent)?;
        outbox::append(tx, &[prepared]).await?;
        Ok(())
    }
}
