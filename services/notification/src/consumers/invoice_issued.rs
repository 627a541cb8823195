use consumer::{Failure, Handler, Received};
use events::InvoiceIssued;
use sqlx::PgConnection;

use crate::consumers::not_enqueued;
use crate::email::{self, EmailText, Wanted};
use crate::webhook;

/// Sends customers the receipts of their invoices.
pub(crate) struct WriteReceipt;

impl Handler for WriteReceipt {
    type Event = InvoiceIssued;

    async fn handle(
        &self,
        tx: &mut PgConnection,
        events: &[Received<InvoiceIssued>],
    ) -> Result<(), Failure> {
        let wanted = events.iter().map(|event| Wanted::by(event, EmailText::receipt(&event.data)));
        email::write(tx, &wanted.collect::<Vec<_>>()).await.map_err(not_enqueued)?;
        webhook::write(tx, events).await.map_err(not_enqueued)?;
        Ok(())
    }
}
