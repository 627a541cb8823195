use std::marker::PhantomData;

use consumer::{Failure, Handler, Received};
use envelope::Event;
use events::{Order, OrderCompleted, OrderCreated, OrderUpdated};
use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::store::{self, Known};

/// Writes the order that an event carries into the projection.
pub(crate) struct OrderProjection<E>(PhantomData<fn() -> E>);

impl<E> OrderProjection<E> {
    pub(crate) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<E: Carries> Handler for OrderProjection<E> {
    type Event = E;

    async fn handle(&self, tx: &mut PgConnection, events: &[Received<E>]) -> Result<(), Failure> {
        let known: Vec<_> = events.iter().map(known).collect();
        store::put(tx, &known).await?;
        Ok(())
    }
}

fn known<E: Carries>(event: &Received<E>) -> Known<'_> {
    let (order, completed_at) = event.data.order();
    Known { order, version: event.envelope.version.unwrap_or_default(), completed_at }
}

/// An event that carries the whole order.
pub(crate) trait Carries: Event {
    /// The order, and when it was completed.
    fn order(&self) -> (&Order, Option<OffsetDateTime>);
}

impl Carries for OrderCreated {
    fn order(&self) -> (&Order, Option<OffsetDateTime>) {
        (&self.0, None)
    }
}

impl Carries for OrderUpdated {
    fn order(&self) -> (&Order, Option<OffsetDateTime>) {
        (&self.0, None)
    }
}

impl Carries for OrderCompleted {
    fn order(&self) -> (&Order, Option<OffsetDateTime>) {
        (&self.order, Some(self.completed_at))
    }
}
