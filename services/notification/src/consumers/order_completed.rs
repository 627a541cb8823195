use consumer::{Failure, Handler, Received};
use events::OrderCompleted;
use sqlx::PgConnection;

use crate::letter::Letter;
use crate::store;

/// Writes the confirmation of a completed order.
pub(crate) struct WriteConfirmation;

impl Handler for WriteConfirmation {
    type Event = OrderCompleted;

    async fn handle(
        &self,
        tx: &mut PgConnection,
        event: &Received<OrderCompleted>,
    ) -> Result<(), Failure> {
        store::write(tx, event, &Letter::confirmation(&event.data.order)).await?;
        Ok(())
    }
}
