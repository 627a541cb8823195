use std::collections::HashMap;
use std::sync::LazyLock;

use jsonschema::Validator;
use serde_json::Value;

use crate::event::SchemaVersion;

/// One file of `schemas/`, with the example that goes with it.
#[derive(Clone, Copy, Debug)]
pub struct SchemaFile {
    /// Event type.
    pub event_type: &'static str,
    /// Version of the schema.
    pub version: SchemaVersion,
    /// The JSON Schema (draft 2020-12).
    pub schema: &'static str,
    /// Data that it accepts.
    pub example: &'static str,
}

macro_rules! schema_files {
    ($($event_type:literal $major:literal . $minor:literal),* $(,)?) => {
        &[$(SchemaFile {
            event_type: $event_type,
            version: SchemaVersion { major: $major, minor: $minor },
            schema: include_str!(concat!(
                "../../../schemas/", $event_type, "/", $major, ".", $minor, ".json")),
            example: include_str!(concat!(
                "../../../schemas/", $event_type, "/examples/", $major, ".", $minor, ".json")),
        }),*]
    };
}

/// Every schema there is. A new file under `schemas/` is entered here; a test finds one that is not.
pub const SCHEMAS: &[SchemaFile] = schema_files![
    "order.created" 1 . 0,
    "order.updated" 1 . 0,
    "order.completed" 1 . 0,
    "invoice.issued" 1 . 0,
];

/// Data that its schema refuses: each violation with the place in the data where it is.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{event_type} {}.{} refuses the data: {}", version.major, version.minor, violations.join("; "))]
pub struct SchemaViolation {
    /// Event type.
    pub event_type: String,
    /// Version of the schema that was asked for.
    pub version: SchemaVersion,
    /// What is wrong, in the schema's own words, at most ten.
    pub violations: Vec<String>,
}

/// Checks data against the schema of its type and version.
///
/// Strict, for publishing: what no schema describes is refused as well. Readers are tolerant and
/// do not call this.
pub fn check(
    event_type: &str,
    version: SchemaVersion,
    data: &Value,
) -> Result<(), SchemaViolation> {
    static VALIDATORS: LazyLock<HashMap<(&str, u32, u32), Validator>> = LazyLock::new(|| {
        let compiled = SCHEMAS.iter().map(|file| {
            let key = (file.event_type, file.version.major, file.version.minor);
            (key, compile(file.schema))
        });
        compiled.collect()
    });
    let violations = match VALIDATORS.get(&(event_type, version.major, version.minor)) {
        None => vec!["there is no such schema".to_owned()],
        Some(validator) if validator.is_valid(data) => return Ok(()),
        Some(validator) => validator
            .iter_errors(data)
            .take(10)
            .map(|error| match error.instance_path().as_str() {
                "" => error.to_string(),
                path => format!("{path}: {error}"),
            })
            .collect(),
    };
    Err(SchemaViolation { event_type: event_type.to_owned(), version, violations })
}

/// The schemas are part of the binary, and a test compiles them all: one that does not compile
/// can't be met at run time.
fn compile(schema: &str) -> Validator {
    let schema: Value = serde_json::from_str(schema).expect("an embedded schema is JSON");
    jsonschema::draft202012::options()
        .should_validate_formats(true)
        .build(&schema)
        .expect("an embedded schema compiles")
}
