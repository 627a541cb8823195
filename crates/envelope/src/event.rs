use std::borrow::Cow;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::schema::Schema;

/// A type of event: the data that one CloudEvents type carries.
///
/// ```
/// use std::borrow::Cow;
///
/// use envelope::{Event, Schema};
/// use serde::{Deserialize, Serialize};
///
/// static SHIPPED: Schema = Schema::new(r#"{
///     "$id": "https://example.com/schemas/parcel.shipped/1.0.json",
///     "type": "object",
///     "required": ["parcel"],
///     "properties": { "parcel": { "type": "string" } }
/// }"#);
///
/// #[derive(Serialize, Deserialize)]
/// struct ParcelShipped {
///     parcel: String,
/// }
///
/// impl Event for ParcelShipped {
///     const TYPE: &'static str = "parcel.shipped";
///     const SCHEMA: &'static Schema = &SHIPPED;
///
///     fn subject(&self) -> Cow<'_, str> {
///         self.parcel.as_str().into()
///     }
/// }
/// ```
pub trait Event: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// CloudEvents `type`, `<noun>.<past participle>`. Also the topic, unless the publisher names another one.
    const TYPE: &'static str;
    /// The schema that the data is checked against when the event is published. A static of its own, so that it is
    /// compiled once.
    const SCHEMA: &'static Schema;

    /// CloudEvents `subject`: what the event is about. Versions are counted by it.
    fn subject(&self) -> Cow<'_, str>;

    /// The key of the record: events with the same key stay in order.
    fn partition_key(&self) -> Cow<'_, str> {
        self.subject()
    }

    /// The tenant whose data it is, or `None` where there are no tenants.
    fn tenant(&self) -> Option<&str> {
        None
    }
}
