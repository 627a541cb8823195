//! Decodes JSON bodies, and describes their errors in terms of JSON.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::error::Category;

use super::problem::Problem;

/// A JSON object. A struct alone would also be read from an array, field by field by their
/// positions; use this for bodies, and for each struct within one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct JsonObject<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for JsonObject<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct OfObject<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for OfObject<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }

        from.deserialize_map(OfObject(PhantomData)).map(Self)
    }
}

/// Parses a body. Fails with 400 if it is not JSON, and with 422 that names the field if a field is
/// unknown, missing or malformed.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    match serde_json::from_slice(bytes) {
        Ok(JsonObject(decoded)) => Ok(decoded),
        // To find the path takes longer than to decode.
        Err(_) => decode_with_path(bytes),
    }
}

fn decode_with_path<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let decoded = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        (path, error.into_inner())
    });
    match decoded {
        Ok(JsonObject(decoded)) => json.end().map(|()| decoded).map_err(|error| malformed(&error)),
        Err((path, error)) if error.classify() == Category::Data => {
            let message = error.to_string();
            // The position in the text does not help callers whose library has written the text.
            let message = message.rsplit_once(" at line ").map_or(&*message, |(reason, _)| reason);
            Err(Problem::unprocessable(violation(&path, message)))
        }
        Err((_, error)) => Err(malformed(&error)),
    }
}

fn malformed(error: &serde_json::Error) -> Problem {
    Problem::bad_request(format!("the body is not JSON: {error}"))
}

/// Describes an error at a path, such as `items[1].sku`, or in the whole body at `.`.
fn violation(path: &str, message: &str) -> String {
    if let Some(field) = missing_field(message) {
        return if path == "." {
            format!("{field} is missing")
        } else {
            format!("{path}.{field} is missing")
        };
    }
    let path = if path == "." { "the body" } else { path };
    format!("{path}: {}", in_words_of_json(message))
}

/// Describes an error in a query string.
pub(super) fn query_violation(message: &str) -> String {
    match missing_field(message) {
        Some(field) => format!("the query: {field} is missing"),
        None => format!("the query: {}", in_words_of_json(message)),
    }
}

fn missing_field(message: &str) -> Option<&str> {
    message.strip_prefix("missing field `")?.strip_suffix('`')
}

/// Replaces serde's names of types with those of JSON.
fn in_words_of_json(message: &str) -> String {
    let message = message.replacen("invalid type: map,", "invalid type: object,", 1).replacen(
        "invalid type: sequence,",
        "invalid type: array,",
        1,
    );
    let Some((given, expected)) = message.rsplit_once(", expected ") else { return message };
    let expected = match expected {
        "i8" | "i16" | "i32" | "i64" => "an integer",
        "u8" | "u16" | "u32" | "u64" | "usize" => "an integer that is not negative",
        "f32" | "f64" => "a number",
        "a sequence" => "an array",
        "a map" => "an object",
        "unit" => "no fields",
        other if other.starts_with("struct ") || other.starts_with("internally tagged") => {
            "an object"
        }
        other => other,
    };
    format!("{given}, expected {expected}")
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize, Debug)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "only read")]
    struct Parcel {
        items: Vec<JsonObject<Item>>,
        note: Option<String>,
    }

    #[derive(Deserialize, Debug)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "only read")]
    struct Item {
        weight: i64,
        count: u32,
    }

    fn refused(body: &str) -> (StatusCode, String) {
        let problem = decode::<Parcel>(body.as_bytes()).expect_err(body);
        (problem.status(), problem.detail().to_owned())
    }

    #[test]
    fn fields_are_not_taken_by_position() {
        for (body, expected_detail) in [
            (r#" [[[1, 2]], "a note"]"#, "the body: invalid type: array, expected an object"),
            (r#"{"items":[[1, 2]]}"#, "items[0]: invalid type: array, expected an object"),
        ] {
            let expected = (StatusCode::UNPROCESSABLE_ENTITY, expected_detail.to_owned());
            assert_eq!(refused(body), expected, "{body}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_by_its_path() {
        for (body, expected_detail) in [
            (
                r#"{"items":[ITEM,{"weight":1.5,"count":1}]}"#,
                "items[1].weight: invalid type: floating point `1.5`, expected an integer",
            ),
            (
                r#"{"items":[{"weight":1,"count":-1}]}"#,
                "items[0].count: invalid value: integer `-1`, expected an integer that is not negative",
            ),
            (r#"{"items":[ITEM,{"weight":1}]}"#, "items[1].count is missing"),
            (r#"{"note":"a"}"#, "items is missing"),
            (r#"{"items":{}}"#, "items: invalid type: object, expected an array"),
            (r#"{"items":["a"]}"#, "items[0]: invalid type: string \"a\", expected an object"),
            (r#"{"items":[],"note":7}"#, "note: invalid type: integer `7`, expected a string"),
            ("7", "the body: invalid type: integer `7`, expected an object"),
        ] {
            let body = body.replace("ITEM", r#"{"weight":1,"count":1}"#);
            let expected = (StatusCode::UNPROCESSABLE_ENTITY, expected_detail.to_owned());
            assert_eq!(refused(&body), expected, "{body}");
        }
        for (body, path, expected_detail) in [
            (r#"{"items":[{"weight":1,"count":1,"color":1}]}"#, "items[0]", "`color`"),
            (r#"{"items":[],"items":[]}"#, "items", "duplicate field"),
        ] {
            let (status, detail) = refused(body);
            assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
            assert!(detail.contains(path) && detail.contains(expected_detail), "{detail}");
        }
    }

    #[test]
    fn a_text_that_is_not_json_is_malformed() {
        for body in ["", "{", r#"{"items":[]"#, r#"{"items":[]} x"#, "\u{0}"] {
            let (status, detail) = refused(body);
            assert_eq!(status, StatusCode::BAD_REQUEST, "{body}: {detail}");
        }
    }
}
