use std::sync::Arc;

use events::{Cause, Envelope, Event};
use futures::future::BoxFuture;
use sqlx::PgConnection;
use telemetry::TraceContext;

use crate::failure::Failure;

/// An event as a handler gets it.
#[derive(Clone, Debug)]
pub struct Received<E> {
    /// What is said about it.
    pub envelope: Arc<Envelope>,
    /// What is said.
    pub data: E,
}

impl<E> Received<E> {
    /// For events that this one causes: the same flow, caused by it, created in the current span.
    pub fn cause(&self) -> Cause {
        Cause {
            correlation_id: self.envelope.correlation_id.clone(),
            causation_id: Some(self.envelope.id.clone()),
            traceparent: TraceContext::current().map(|context| context.traceparent),
        }
    }
}

/// What a service does about one type of event.
pub trait Handler: Send + Sync + 'static {
    /// The type.
    type Event: Event;

    /// Makes the effect, in the transaction that also holds the inbox row: both commit, or neither. Effects
    /// outside of the database do not belong here. Called once per event, unless it fails. An error of SQL has
    /// ended the transaction, so it must be returned (or made in a savepoint).
    fn handle(
        &self,
        tx: &mut PgConnection,
        event: &Received<Self::Event>,
    ) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// Data that can't be read as its event.
#[derive(Debug, thiserror::Error)]
enum Unreadable {
    #[error("the event can't be read: {0}")]
    Schema(String),
    #[error("the data is no {event_type}")]
    Data { event_type: &'static str, source: serde_json::Error },
}

/// A handler whose type is forgotten.
pub(crate) trait Erased: Send + Sync {
    fn handle<'a>(
        &'a self,
        tx: &'a mut PgConnection,
        envelope: &'a Arc<Envelope>,
        data: &'a [u8],
    ) -> BoxFuture<'a, Result<(), Failure>>;
}

impl<H: Handler> Erased for H {
    fn handle<'a>(
        &'a self,
        tx: &'a mut PgConnection,
        envelope: &'a Arc<Envelope>,
        data: &'a [u8],
    ) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move {
            envelope
                .readable_as::<H::Event>()
                .map_err(|reason| Failure::permanent(Unreadable::Schema(reason)))?;
            let data = serde_json::from_slice(data).map_err(|source| {
                Failure::permanent(Unreadable::Data { event_type: H::Event::TYPE, source })
            })?;
            let received = Received { envelope: Arc::clone(envelope), data };
            Handler::handle(self, tx, &received).await
        })
    }
}
