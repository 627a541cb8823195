use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use envelope::{Cause, Envelope, Event, RawEvent};
use futures::future::BoxFuture;
use serde_json::Value;
use sqlx::PgConnection;
use telemetry::TraceContext;
use tracing::Span;

use crate::failure::Failure;

/// An event as passed to a handler. Cheap to clone.
pub struct Received<E> {
    /// Attributes of the event.
    pub envelope: Arc<Envelope>,
    /// Data of the event.
    pub data: Arc<E>,
    /// Span in which the event is processed.
    span: Span,
}

impl<E> Received<E> {
    /// Returns the cause for events that the handler publishes: the same correlation id, this
    /// event's id, and the span of its processing.
    pub fn cause(&self) -> Cause {
        let context = TraceContext::of(&self.span);
        let (traceparent, tracestate) =
            context.map(|context| (context.traceparent, context.tracestate)).unzip();
        Cause {
            correlation_id: self.envelope.correlation_id.clone(),
            causation_id: Some(self.envelope.id.clone()),
            traceparent,
            tracestate: tracestate.flatten(),
        }
    }
}

impl<E> Clone for Received<E> {
    fn clone(&self) -> Self {
        let Self { envelope, data, span } = self;
        Self { envelope: Arc::clone(envelope), data: Arc::clone(data), span: span.clone() }
    }
}

impl<E: fmt::Debug> fmt::Debug for Received<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Received")
            .field("envelope", &self.envelope)
            .field("data", &self.data)
            .finish_non_exhaustive()
    }
}

/// Handles one type of event.
///
/// ```
/// use consumer::{Failure, Handler, Received};
/// # use std::borrow::Cow;
/// # use envelope::{Event, Schema};
/// # use serde::{Deserialize, Serialize};
/// use sqlx::PgConnection;
///
/// # static SHIPPED: Schema = Schema::new("{}");
/// # #[derive(Serialize, Deserialize)]
/// # struct ParcelShipped { parcel: String }
/// # impl Event for ParcelShipped {
/// #     const TYPE: &'static str = "parcel.shipped";
/// #     const SCHEMA: &'static Schema = &SHIPPED;
/// #     fn subject(&self) -> Cow<'_, str> { self.parcel.as_str().into() }
/// # }
/// struct CountParcels;
///
/// impl Handler for CountParcels {
///     type Event = ParcelShipped;
///
///     async fn handle(
///         &self,
///         tx: &mut PgConnection,
///         events: &[Received<ParcelShipped>],
///     ) -> Result<(), Failure> {
///         let parcels: Vec<_> = events.iter().map(|event| event.data.parcel.as_str()).collect();
///         let insert = sqlx::query("insert into parcels select * from unnest($1::text[])");
///         insert.bind(parcels).execute(tx).await?;
///         Ok(())
///     }
/// }
/// ```
pub trait Handler: Send + Sync + 'static {
    /// The type.
    type Event: Event;

    /// Applies events, in order, in the transaction that also records them in the inbox. Each event
    /// is passed once, unless an attempt fails.
    ///
    /// `events` has one or more events, of the same subject or of different ones. One statement for
    /// all events is several times as fast as one for each. Lock rows that other transactions lock
    /// too in a sorted order. If an attempt at several events fails, each is attempted again alone.
    ///
    /// Do not cause effects outside the database, since they can't be rolled back: enqueue a job,
    /// or append an event. An SQL error aborts the transaction, so return it, or run the statement
    /// in a savepoint.
    ///
    /// The future is dropped at its current await point after
    /// [`Options::handler_timeout`](crate::Options::handler_timeout), or with the future of
    /// [`Feed::take`](crate::Feed::take). Its transaction rolls back then. A panic counts as a
    /// transient failure, and so does the time-out, unless the database does not answer at all.
    fn handle(
        &self,
        tx: &mut PgConnection,
        events: &[Received<Self::Event>],
    ) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// The type-erased data of an event.
pub(crate) type Data = Arc<dyn Any + Send + Sync>;

/// An event that a handler has read.
pub(crate) struct Decoded {
    pub(crate) envelope: Arc<Envelope>,
    pub(crate) data: Data,
    pub(crate) span: Span,
}

/// A type-erased handler.
pub(crate) trait Erased: Send + Sync {
    /// Decodes the data of an event as this handler's type, once for all attempts.
    fn read(&self, event: &RawEvent<'_>) -> Result<Data, Failure>;

    /// Validates data against the schema of this handler's type, as at publishing, and decodes it.
    fn check(&self, envelope: &Envelope, data: &str) -> Result<(), Failure>;

    /// Calls the handler with events that it has decoded.
    fn handle<'a>(
        &'a self,
        tx: &'a mut PgConnection,
        events: &'a [&'a Decoded],
    ) -> BoxFuture<'a, Result<(), Failure>>;
}

/// The event type's own code panicked.
#[derive(Debug, thiserror::Error)]
#[error("reading the data as {0} panicked")]
struct PanickedOnRead(&'static str);

/// Unreachable: data is passed only to the handler that decoded it.
#[derive(Debug, thiserror::Error)]
#[error("the data was read by another handler")]
struct Mixed;

impl<H: Handler> Erased for H {
    fn read(&self, event: &RawEvent<'_>) -> Result<Data, Failure> {
        // The event type's own code runs here: a panic must fail this message, not its lane.
        let reading = AssertUnwindSafe(|| event.envelope.read::<H::Event>(&event.data));
        match catch_unwind(reading) {
            Ok(data) => Ok(Arc::new(data.map_err(Failure::permanent)?)),
            Err(_) => Err(Failure::permanent(PanickedOnRead(H::Event::TYPE))),
        }
    }

    fn check(&self, envelope: &Envelope, data: &str) -> Result<(), Failure> {
        let value: Value = serde_json::from_str(data).map_err(Failure::permanent)?;
        H::Event::SCHEMA.check(H::Event::TYPE, &value).map_err(Failure::permanent)?;
        let read = AssertUnwindSafe(|| envelope.read::<H::Event>(data.as_bytes()));
        match catch_unwind(read) {
            Ok(read) => read.map(drop).map_err(Failure::permanent),
            Err(_) => Err(Failure::permanent(PanickedOnRead(H::Event::TYPE))),
        }
    }

    fn handle<'a>(
        &'a self,
        tx: &'a mut PgConnection,
        events: &'a [&'a Decoded],
    ) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move {
            let received = events.iter().map(|event| {
                let data = Arc::clone(&event.data).downcast::<H::Event>();
                let data = data.map_err(|_| Failure::permanent(Mixed))?;
                let (envelope, span) = (Arc::clone(&event.envelope), event.span.clone());
                Ok(Received { envelope, data, span })
            });
            let received = received.collect::<Result<Vec<_>, Failure>>()?;
            Handler::handle(self, tx, &received).await
        })
    }
}
