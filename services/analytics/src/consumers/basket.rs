use consumer::{Failure, Handler, Received};
use events::{OrderCancelled, OrderCompleted};
use sqlx::PgConnection;

use crate::basket;

/// Notes what a completed order holds.
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

/// Notes that the basket of a completed order counts no longer.
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
