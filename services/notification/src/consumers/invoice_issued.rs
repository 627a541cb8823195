use consumer::{Failure, Handler, Received};
use events::InvoiceIssued;
use sqlx::PgConnection;

use crate::letter::Letter;
use crate::store;

/// Writes the receipts of invoices.
pub(crate) struct WriteReceipt;

impl Handler for WriteReceipt {
    type Event = InvoiceIssued;

    async fn handle(
        &self,
        tx: &mut PgConnection,
        event: &Received<InvoiceIssued>,
    ) -> Result<(), Failure> {
        self.handle_batch(tx, std::slice::from_ref(event)).await
    }

    async fn handle_batch(
        &self,
        tx: &mut PgConnection,
        events: &[Received<InvoiceIssued>],
    ) -> Result<(), Failure> {
        let letters = events.iter().map(|event| (event, Letter::receipt(&event.data)));
        store::write(tx, &letters.collect::<Vec<_>>()).await?;
        Ok(())
    }
}
