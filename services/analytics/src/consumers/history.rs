use std::marker::PhantomData;

use consumer::{Failure, Handler, Received};
use events::OrderEvent;
use sqlx::PgConnection;

use crate::history;

/// Records an event in the history of its order.
pub(crate) struct HistoryProjection<E>(PhantomData<fn() -> E>);

impl<E> HistoryProjection<E> {
    pub(crate) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<E: OrderEvent> Handler for HistoryProjection<E> {
    type Event = E;

    async fn handle(&self, tx: &mut PgConnection, events: &[Received<E>]) -> Result<(), Failure> {
        history::note(tx, events).await?;
        Ok(())
    }
}
