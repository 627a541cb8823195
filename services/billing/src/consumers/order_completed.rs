use consumer::{Failure, Handler, Received};
use events::{OrderCompleted, OrderStatus};
use sqlx::PgConnection;

use super::check;
use super::issuing::{self, Due};
use crate::store;

/// Issues the invoices of completed orders.
pub(crate) struct IssueInvoice;

impl Handler for IssueInvoice {
    type Event = OrderCompleted;

    async fn handle(
        &self,
        tx: &mut PgConnection,
        events: &[Received<OrderCompleted>],
    ) -> Result<(), Failure> {
        let mut due = Vec::with_capacity(events.len());
        for event in events {
            let order = &event.data.order;
            check(order, OrderStatus::Completed).map_err(Failure::permanent)?;
            due.push(Due { order, version: event.envelope.version, cause: event.cause() });
        }
        // A batch that loses a race against a cancellation fails as a whole. A single event is only
        // retried, so it is spared the round trip.
        if let [_, _, ..] = events {
            let tenants: Vec<_> = due.iter().map(|due| due.order.tenant_id.as_str()).collect();
            store::lock_counters(tx, &tenants).await?;
        }
        issuing::issue(tx, &due).await
    }
}
