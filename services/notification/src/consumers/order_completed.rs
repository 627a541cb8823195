use consumer::{Failure, Handler, Received};
use events::OrderCompleted;
use sqlx::PgConnection;

use crate::letter::Letter;
use crate::store;

/// Writes the confirmations of completed orders.
pub(crate) struct WriteConfirmation;

impl Handler for WriteConfirmation {
    type Event = OrderCompleted;

    async fn handle(
        &self,
        tx: &mut PgConnection,
        event: &Received<OrderCompleted>,
    ) -> Result<(), Failure> {
        self.handle_batch(tx, std::slice::from_ref(event)).await
    }

    async fn handle_batch(
        &self,
        tx: &mut PgConnection,
        events: &[Received<OrderCompleted>],
    ) -> Result<(), Failure> {
        let letters = events.iter().map(|event| (event, Letter::confirmation(&event.data.order)));
        store::write(tx, &letters.collect::<Vec<_>>()).await?;
        Ok(())
    }
}
