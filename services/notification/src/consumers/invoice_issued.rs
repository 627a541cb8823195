use consumer::{Failure, Handler, Received};
use events::InvoiceIssued;
use sqlx::PgConnection;

use crate::letter::Letter;
use crate::store;

/// Writes the receipt of an invoice.
pub(crate) struct WriteReceipt;

impl Handler for WriteReceipt {
    type Event = InvoiceIssued;

    async fn handle(
        &self,
        tx: &mut PgConnection,
        event: &Received<InvoiceIssued>,
    ) -> Result<(), Failure> {
        store::write(tx, event, &Letter::receipt(&event.data)).await?;
        Ok(())
    }
}
