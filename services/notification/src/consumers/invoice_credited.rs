use consumer::{Failure, Handler, Received};
use events::InvoiceCredited;
use sqlx::PgConnection;

use crate::consumers::not_enqueued;
use crate::email::{self, EmailText, Wanted};
use crate::webhook;

/// Sends credit notes to customers.
pub(crate) struct WriteCreditNote;

impl Handler for WriteCreditNote {
    type Event = InvoiceCredited;

    async fn handle(
        &self,
        tx: &mut PgConnection,
        events: &[Received<InvoiceCredited>],
    ) -> Result<(), Failure> {
        let wanted =
            events.iter().map(|event| Wanted::by(event, EmailText::credit_note(&event.data)));
        email::write(tx, &wanted.collect::<Vec<_>>()).await.map_err(not_enqueued)?;
        webhook::write(tx, events).await.map_err(not_enqueued)?;
        Ok(())
    }
}
