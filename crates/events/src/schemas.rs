/// A file of `schemas/` with its example, for tests and tools. Events are validated against the
/// schema of their type.
#[derive(Clone, Copy, Debug)]
pub struct SchemaFile {
    /// Event type.
    pub event_type: &'static str,
    /// `<major>.<minor>`.
    pub version: &'static str,
    /// JSON Schema (draft 2020-12).
    pub schema: &'static str,
    /// Example of valid data.
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

/// All schemas, with the versions of a type in ascending order. A new file under `schemas/` has to
/// be added here; a test finds missing ones.
pub const SCHEMAS: &[SchemaFile] = schema_files![
    "order.created" "1.0",
    "order.updated" "1.0",
    "order.completed" "1.0",
    "order.cancelled" "1.0",
    "invoice.issued" "1.0",
    "invoice.credited" "1.0",
];

/// Returns an example for the newest schema of a type, as JSON. Returns `None` for an unknown type.
pub fn example(event_type: &str) -> Option<&'static str> {
    let newest = SCHEMAS.iter().rfind(|file| file.event_type == event_type);
    newest.map(|file| file.example)
}
