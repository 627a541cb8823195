/// A file of `schemas/`, with the example that goes with it: for tests and tools. Events are checked against the schema
/// that their type brings with it.
#[derive(Clone, Copy, Debug)]
pub struct SchemaFile {
    /// Event type.
    pub event_type: &'static str,
    /// `<major>.<minor>`.
    pub version: &'static str,
    /// JSON Schema (draft 2020-12).
    pub schema: &'static str,
    /// Data that it accepts.
    pub example: &'static str,
}

macro_rules! schema_files {
    ($($event_type:literal $version:literal),* $(,)?) => {
        &[$(SchemaFile {
            event_type: $event_type,
            version: $version,
            schema: include_str!(concat!("../../../schemas/", $event_type, "/", $version, ".json")),
            example: include_str!(concat!(
                "../../../schemas/", $event_type, "/examples/", $version, ".json")),
        }),*]
    };
}

/// Every schema, the versions of a type in their order. A new file under `schemas/` is entered here; a test finds one that
/// is not.
pub const SCHEMAS: &[SchemaFile] = schema_files![
    "order.created" "1.0",
    "order.updated" "1.0",
    "order.completed" "1.0",
    "order.cancelled" "1.0",
    "invoice.issued" "1.0",
    "invoice.credited" "1.0",
];

/// Returns data that the newest schema of a type accepts, as JSON. Returns `None` for an unknown type.
pub fn example(event_type: &str) -> Option<&'static str> {
    let newest = SCHEMAS.iter().rfind(|file| file.event_type == event_type);
    newest.map(|file| file.example)
}
