use consumer::{Failure, Handler, Received};
use events::OrderCancelled;
use sqlx::PgConnection;

use crate::consumers::not_enqueued;
use crate::email::{self, EmailText, Wanted};
use crate::webhook;

/// Notifies customers that their orders were cancelled.
pub(crate) struct WriteCancellation;

impl Handler for WriteCancellation {
    type Event = OrderCancelled;

    async fn handle(
        &self,
        tx: &mut PgConnection,
        events: &[Received<OrderCancelled>],
    ) -> Result<(), Failure> {
        let wanted =
            events.iter().map(|event| Wanted::by(event, EmailText::cancellation(&event.data)));
        email::write(tx, &wanted.collect::<Vec<_>>()).await.map_err(not_enqueued)?;
        webhook::write(tx, events).await.map_err(not_enqueued)?;
        Ok(())
    }
}
