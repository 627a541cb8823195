use std::marker::PhantomData;

use consumer::{Failure, Handler, Received};
use envelope::Event;
use events::{Order, OrderCancelled, OrderCompleted, OrderCreated, OrderUpdated};
use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::store::{self, Known};

/// Writes the order in an event to the projection.
pub(crate) struct OrderProjection<E>(PhantomData<fn() -> E>);

impl<E> OrderProjection<E> {
    pub(crate) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<E: OrderSnapshot> Handler for OrderProjection<E> {
    type Event = E;

    async fn handle(&self, tx: &mut PgConnection, events: &[Received<E>]) -> Result<(), Failure> {
        let known: Vec<_> = events.iter().map(known).collect();
        store::put(tx, &known).await?;
        Ok(())
    }
}

fn known<E: OrderSnapshot>(event: &Received<E>) -> Known<'_> {
    let (data, version) = (&event.data, event.envelope.version.unwrap_or_default());
    let (completed_at, cancelled_at) = (data.completed_at(), data.cancelled_at());
    Known { order: data.order(), version, completed_at, cancelled_at }
}

/// An event that contains the whole order.
pub(crate) trait OrderSnapshot: Event {
    /// Returns the order.
    fn order(&self) -> &Order;

    /// Returns when the order was completed.
    fn completed_at(&self) -> Option<OffsetDateTime> {
        None
    }

    /// Returns when the order was cancelled.
    fn cancelled_at(&self) -> Option<OffsetDateTime> {
        None
    }
}

impl OrderSnapshot for OrderCreated {
    fn order(&self) -> &Order {
        &self.0
    }
}

impl OrderSnapshot for OrderUpdated {
    fn order(&self) -> &Order {
        &self.0
    }
}

impl OrderSnapshot for OrderCompleted {
    fn order(&self) -> &Order {
        &self.order
    }

    fn completed_at(&self) -> Option<OffsetDateTime> {
        Some(self.completed_at)
    }
}

impl OrderSnapshot for OrderCancelled {
    fn order(&self) -> &Order {
        &self.order
    }

    fn completed_at(&self) -> Option<OffsetDateTime> {
        self.completed_at
    }

    fn cancelled_at(&self) -> Option<OffsetDateTime> {
        Some(self.cancelled_at)
    }
}
