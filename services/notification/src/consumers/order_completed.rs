use consumer::{Failure, Handler, Received};
use events::OrderCompleted;
use sqlx::PgConnection;

use crate::consumers::not_enqueued;
use crate::email::{self, EmailText, Wanted};
use crate::webhook;

/// Sends customers the confirmations of completed orders.
pub(crate) struct WriteConfirmation;

impl Handler for WriteConfirmation {
    type Event = OrderCompleted;

    async fn handle(
        &self,
        tx: &mut PgConnection,
        events: &[Received<OrderCompleted>],
    ) -> Result<(), Failure> {
        let wanted = events
            .iter()
            .map(|event| Wanted::by(event, EmailText::confirmation(&event.data.order)));
        email::write(tx, &wanted.collect::<Vec<_>>()).await.map_err(not_enqueued)?;
        webhook::write(tx, events).await.map_err(not_enqueued)?;
        Ok(())
    }
}
