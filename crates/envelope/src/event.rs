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
    /// CloudEvents `type`, `<noun>.<past participle>`. Also the topic, unless the publisher names
    /// another one.
    const TYPE: &'static str;
    /// The schema that validates the data at publishing. A static, so that it is compiled once.
    const SCHEMA: &'static Schema;

    /// Returns the CloudEvents `subject`: the entity that the event is about, to which versions
    /// refer.
    fn subject(&self) -> Cow<'_, str>;

    /// Returns the key of the record: events with the same key stay in order.
    fn partition_key(&self) -> Cow<'_, str> {
        self.subject()
    }

    /// Returns the tenant that owns the data, or `None` in a system without tenants.
    fn tenant(&self) -> Option<&str> {
        None
    }
}
