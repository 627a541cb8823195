use consumer::{Failure, Handler, Received};
use events::OrderCompleted;
use sqlx::PgConnection;

use crate::basket;

/// Notes what a completed order holds.
pub(crate) struct Fill {
    pub(crate) generation: i32,
}

impl Handler for Fill {
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
        basket::write(tx, self.generation, events).await?;
        Ok(())
    }
}
