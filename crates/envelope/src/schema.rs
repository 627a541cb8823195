use std::sync::OnceLock;

use jsonschema::Validator;
use serde_json::Value;

/// Violations beyond this number are not listed.
const MAX_VIOLATIONS: usize = 10;

/// A JSON Schema (draft 2020-12), compiled when it is first used.
///
/// Its `$id` is the `dataschema` of its events, and ends with the version
/// (`https://example.com/schemas/parcel.shipped/1.0.json`). Within a major only additions are
/// allowed, so that a reader of one minor can read them all.
///
/// ```
/// use envelope::Schema;
/// use serde_json::json;
///
/// static SHIPPED: Schema = Schema::new(r#"{
///     "$id": "https://example.com/schemas/parcel.shipped/1.0.json",
///     "type": "object",
///     "properties": { "grams": { "minimum": 1 } }
/// }"#);
///
/// assert_eq!(SHIPPED.major(), Some(1));
/// assert!(SHIPPED.check("parcel.shipped", &json!({ "grams": 400 })).is_ok());
/// let error = SHIPPED.check("parcel.shipped", &json!({ "grams": 0 })).unwrap_err();
/// assert!(error.to_string().contains("/grams: "));
/// ```
#[derive(Debug)]
pub struct Schema {
    text: &'static str,
    compiled: OnceLock<Result<Compiled, String>>,
}

#[derive(Debug)]
struct Compiled {
    uri: String,
    major: Option<u32>,
    validator: Validator,
}

/// Why data can't be published.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SchemaError {
    /// The schema itself is invalid.
    #[error("the schema of {event_type} can't be used: {reason}")]
    Unusable {
        /// Event type.
        event_type: &'static str,
        /// The reason.
        reason: String,
    },
    /// The schema refuses the data.
    #[error("{schema} refuses the data of {event_type}: {}", violations.join("; "))]
    Refused {
        /// Event type.
        event_type: &'static str,
        /// `$id` of the schema.
        schema: String,
        /// Violations with their places in the data (JSON Pointers), at most ten.
        violations: Vec<String>,
    },
    /// The data can't be serialised as JSON.
    #[error("the data of {event_type} can't be written as JSON: {reason}")]
    Unwritable {
        /// Event type.
        event_type: &'static str,
        /// The reason.
        reason: String,
    },
}

impl Schema {
    /// Creates a schema from its text, usually an `include_str!`. It is compiled on first use.
    pub const fn new(text: &'static str) -> Self {
        Self { text, compiled: OnceLock::new() }
    }

    /// Returns the text of the schema.
    pub fn text(&self) -> &'static str {
        self.text
    }

    /// Returns the `$id`, or `None` if the schema can't be used.
    pub fn uri(&self) -> Option<&str> {
        self.compiled().ok().map(|compiled| compiled.uri.as_str())
    }

    /// Returns the major version in the `$id`, or `None` if it has none.
    pub fn major(&self) -> Option<u32> {
        self.compiled().ok()?.major
    }

    /// Validates the data of an event before publishing. Undescribed properties are refused too if
    /// the schema has `additionalProperties: false`. Returns the `$id`.
    ///
    /// # Errors
    /// Fails with [`SchemaError::Refused`], which lists the violations, or with
    /// [`SchemaError::Unusable`] if the schema itself is invalid.
    pub fn check(&self, event_type: &'static str, data: &Value) -> Result<&str, SchemaError> {
        let compiled = self.compiled().map_err(|reason| {
            let reason = reason.to_owned();
            SchemaError::Unusable { event_type, reason }
        })?;
        if compiled.validator.is_valid(data) {
            return Ok(&compiled.uri);
        }
        let violations = compiled.validator.iter_errors(data).take(MAX_VIOLATIONS);
        let violations = violations.map(|error| match error.instance_path().as_str() {
            "" => error.to_string(),
            path => format!("{path}: {error}"),
        });
        let (schema, violations) = (compiled.uri.clone(), violations.collect());
        Err(SchemaError::Refused { event_type, schema, violations })
    }

    fn compiled(&self) -> Result<&Compiled, &str> {
        self.compiled.get_or_init(|| compile(self.text)).as_ref().map_err(String::as_str)
    }
}

fn compile(text: &str) -> Result<Compiled, String> {
    let schema: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let uri = schema["$id"].as_str().filter(|uri| !uri.is_empty());
    let uri = uri.ok_or("it has no $id, which is the dataschema of its events")?.to_owned();
    let validator = jsonschema::draft202012::options()
        .should_validate_formats(true)
        .build(&schema)
        .map_err(|error| error.to_string())?;
    Ok(Compiled { major: major_of(&uri), uri, validator })
}

/// Returns the major version in the last part of a `dataschema`: 2 for `.../2.1.json`,
/// `urn:x:parcel.shipped:2.1` and `.../v2`. Returns `None` if it has none.
pub fn major_of(dataschema: &str) -> Option<u32> {
    let last = dataschema.rsplit(['/', ':']).next()?;
    let version = last.strip_suffix(".json").unwrap_or(last);
    let version = version.strip_prefix('v').unwrap_or(version);
    let (major, minor) = version.split_once('.').unwrap_or((version, "0"));
    minor.parse::<u32>().ok()?;
    major.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_major_is_read_from_any_of_the_usual_forms() {
        for (dataschema, major) in [
            ("https://example.com/schemas/parcel.shipped/1.0.json", Some(1)),
            ("/parcel.shipped/2.7.json", Some(2)),
            ("urn:example:parcel.shipped:3.1", Some(3)),
            ("https://example.com/parcel.shipped/v4", Some(4)),
            ("https://example.com/parcel.shipped.json", None),
            ("https://example.com/1.x.json", None),
            ("", None),
        ] {
            assert_eq!(major_of(dataschema), major, "{dataschema}");
        }
    }

    #[test]
    fn a_schema_that_can_not_be_used_is_an_error_and_no_panic() {
        for (text, reason) in [
            ("{", "EOF"),
            ("{}", "no $id"),
            (r#"{ "$id": "https://example.com/1.0.json", "type": "text" }"#, "text"),
        ] {
            let schema = Schema::new(text);
            let error = schema.check("parcel.shipped", &json!({})).expect_err(text).to_string();
            assert!(error.contains("parcel.shipped") && error.contains(reason), "{error}");
            assert_eq!(schema.uri(), None);
        }
    }

    #[test]
    fn each_violation_is_named_with_its_place() {
        let schema = Schema::new(
            r#"{ "$id": "https://example.com/1.0.json", "type": "object",
                 "properties": { "grams": { "minimum": 1 }, "to": { "format": "email" } } }"#,
        );
        let data = json!({ "grams": 0, "to": "nobody" });
        let error = schema.check("parcel.shipped", &data).expect_err("refused").to_string();
        assert!(error.contains("/grams: ") && error.contains("/to: "), "{error}");
    }
}
