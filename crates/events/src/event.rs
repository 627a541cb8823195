use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{OrderId, TenantId};

/// The schema version that a type is written by: `schemas/<type>/<major>.<minor>.json`.
///
/// Within a major only additions are made, so a reader of one minor reads all of them;
/// a major that the reader does not know is not read at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SchemaVersion {
    /// Changes that a reader must know of.
    pub major: u32,
    /// Additions.
    pub minor: u32,
}

impl SchemaVersion {
    /// The `dataschema` of an event of this type and version.
    pub fn uri(self, event_type: &str) -> String {
        let Self { major, minor } = self;
        format!("https://orderflow.example/schemas/{event_type}/{major}.{minor}.json")
    }

    /// The major version that a `dataschema` names in its last part: `2` of `.../2.1.json`,
    /// `urn:x:order.completed:2.1` or `.../v2`. None where it names none.
    pub fn major_of(dataschema: &str) -> Option<u32> {
        let last = dataschema.rsplit(['/', ':']).next()?;
        let version = last.strip_suffix(".json").unwrap_or(last);
        let version = version.strip_prefix('v').unwrap_or(version);
        let (major, minor) = version.split_once('.').unwrap_or((version, "0"));
        minor.parse::<u32>().ok()?;
        major.parse().ok()
    }
}

/// Something that happened, as it is said to the other services. Its type is its topic.
pub trait Event: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// CloudEvents type and Kafka topic, `<noun>.<past participle>`.
    const TYPE: &'static str;
    /// The schema it is checked against when published.
    const SCHEMA: SchemaVersion;

    /// The order it is about: the subject, and the key that keeps its events in order.
    fn order_id(&self) -> OrderId;
    /// Whose order it is.
    fn tenant_id(&self) -> &TenantId;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_is_read_from_any_of_the_usual_forms() {
        for (dataschema, major) in [
            ("https://orderflow.example/schemas/order.completed/1.0.json", Some(1)),
            ("/order.completed/2.7.json", Some(2)),
            ("urn:example:order.completed:3.1", Some(3)),
            ("https://example.com/order.completed/v4", Some(4)),
            ("https://example.com/order.completed.json", None),
            ("https://example.com/1.x.json", None),
            ("", None),
        ] {
            assert_eq!(SchemaVersion::major_of(dataschema), major, "{dataschema}");
        }
    }

    #[test]
    fn what_we_write_we_read() {
        let uri = SchemaVersion { major: 2, minor: 3 }.uri("order.completed");
        assert_eq!(SchemaVersion::major_of(&uri), Some(2));
    }
}
