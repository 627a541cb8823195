use std::sync::Arc;

use events::{Cause, Envelope, Event};
use futures::future::BoxFuture;
use sqlx::PgConnection;
use telemetry::TraceContext;
use tracing::Span;

use crate::failure::Failure;

/// An event as a handler gets it.
#[derive(Clone, Debug)]
pub struct Received<E> {
    /// What is said about it.
    pub envelope: Arc<Envelope>,
    /// What is said.
    pub data: E,
    /// The span in which it is processed.
    pub(crate) span: Span,
}

impl<E> Received<E> {
    /// For events that this one causes: the same flow, caused by it, created in the span of its processing.
    pub fn cause(&self) -> Cause {
        Cause {
            correlation_id: self.envelope.correlation_id.clone(),
            causation_id: Some(self.envelope.id.clone()),
            traceparent: TraceContext::of(&self.span).map(|context| context.traceparent),
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

    /// Makes the effects of many events of different orders and of the same, in their order, in one transaction.
    /// Worth writing where one statement can do what a loop would do in many. Rows that other transactions lock
    /// too are to be locked in a sorted order. If it fails, each of the events is handled by itself.
    fn handle_batch(
        &self,
        tx: &mut PgConnection,
        events: &[Received<Self::Event>],
    ) -> impl Future<Output = Result<(), Failure>> + Send {
        async move {
            for event in events {
                self.handle(tx, event).await?;
            }
            Ok(())
        }
    }
}

/// A message whose envelope was read.
#[derive(Clone, Debug)]
pub(crate) struct Decoded<'a> {
    pub(crate) envelope: Arc<Envelope>,
    pub(crate) data: &'a [u8],
    pub(crate) span: Span,
}

impl Decoded<'_> {
    fn received<E: Event>(&self) -> Result<Received<E>, Failure> {
        self.envelope
            .readable_as::<E>()
            .map_err(|reason| Failure::permanent(Unreadable::Schema(reason)))?;
        let data = serde_json::from_slice(self.data).map_err(|source| {
            Failure::permanent(Unreadable::Data { event_type: E::TYPE, source })
        })?;
        Ok(Received { envelope: Arc::clone(&self.envelope), data, span: self.span.clone() })
    }
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
        message: &'a Decoded<'a>,
    ) -> BoxFuture<'a, Result<(), Failure>>;

    /// All of them of this handler's type.
    fn handle_batch<'a>(
        &'a self,
        tx: &'a mut PgConnection,
        messages: &'a [&'a Decoded<'a>],
    ) -> BoxFuture<'a, Result<(), Failure>>;
}

impl<H: Handler> Erased for H {
    fn handle<'a>(
        &'a self,
        tx: &'a mut PgConnection,
        message: &'a Decoded<'a>,
    ) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move { Handler::handle(self, tx, &message.received()?).await })
    }

    fn handle_batch<'a>(
        &'a self,
        tx: &'a mut PgConnection,
        messages: &'a [&'a Decoded<'a>],
    ) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move {
            let received = messages.iter().map(|message| message.received());
            Handler::handle_batch(self, tx, &received.collect::<Result<Vec<_>, _>>()?).await
        })
    }
}
