use consumer::{Failure, Handler, Received};
use events::{OrderCancelled, OrderCompleted};
use sqlx::PgConnection;

use crate::basket;

/// Records the basket of a completed order.
pub(crate) struct BasketProjection {
    pub(crate) generation: i32,
}

impl Handler for BasketProjection {
    type Event = OrderCompleted;

    async fn handle(
        &self,
        tx: &mut PgConnection,
        events: &[Received<OrderCompleted>],
    ) -> Result<(), Failure> {
        basket::write(tx, self.generation, events).await?;
        Ok(())
    }
}

/// Marks the basket of a completed order as cancelled.
pub(crate) struct BasketCancellation {
    pub(crate) generation: i32,
}

impl Handler for BasketCancellation {
    type Event = OrderCancelled;

    async fn handle(
        &self,
        tx: &mut PgConnection,
        events: &[Received<OrderCancelled>],
    ) -> Result<(), Failure> {
        basket::cancel(tx, self.generation, events).await?;
        Ok(())
    }
}
