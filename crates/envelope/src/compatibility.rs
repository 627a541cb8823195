//! Compares two minors of a schema for compatibility. The comparison is structural, because
//! examples cover only the values they contain.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::{Map, Value};

/// Keywords that do not affect validation.
const ANNOTATIONS: [&str; 8] =
    ["$id", "$schema", "$comment", "title", "description", "examples", "default", "deprecated"];
/// Keywords whose increase narrows the schema.
const LOWER_BOUNDS: [&str; 6] =
    ["minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties", "minContains"];
/// Keywords whose decrease narrows the schema.
const UPPER_BOUNDS: [&str; 6] =
    ["maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties", "maxContains"];

/// A change that breaks one side if the other is deployed first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Break {
    /// JSON Pointer into the schemas.
    pub path: String,
    /// Description of the change, and the side that it breaks.
    pub change: String,
}

impl fmt::Display for Break {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.change)
    }
}

/// Returns the changes between an older and a newer minor of one major that would force an order of
/// deployment of publishers and subscribers. Empty if the minors are compatible.
///
/// Added optional properties and widened bounds are compatible. A property that becomes required, a
/// narrowed bound or a removed enum value breaks readers of the newer schema, who still receive
/// older events. A property that is removed or no longer required, an added enum value and a
/// changed type break readers of the older one. A change of an unknown keyword counts as a break.
///
/// ```
/// use serde_json::json;
///
/// let older = json!({
///     "type": "object",
///     "required": ["parcel"],
///     "properties": { "parcel": { "type": "string" } },
/// });
/// let mut newer = older.clone();
/// newer["properties"]["grams"] = json!({ "type": "integer" });
/// assert_eq!(envelope::breaks(&older, &newer), []);
///
/// newer["required"] = json!(["parcel", "grams"]); // older events have none
/// assert_eq!(envelope::breaks(&older, &newer).len(), 1);
/// ```
pub fn breaks(older: &Value, newer: &Value) -> Vec<Break> {
    let mut comparison = Comparison { path: String::new(), breaks: Vec::new() };
    comparison.schemas(older, newer);
    comparison.breaks
}

struct Comparison {
    path: String,
    breaks: Vec<Break>,
}

impl Comparison {
    fn found(&mut self, change: impl Into<String>) {
        self.breaks.push(Break { path: self.path.clone(), change: change.into() });
    }

    fn within(&mut self, names: &[&str], compare: impl FnOnce(&mut Self)) {
        let length = self.path.len();
        for name in names {
            self.path.push('/');
            self.path.push_str(&name.replace('~', "~0").replace('/', "~1"));
        }
        compare(self);
        self.path.truncate(length);
    }

    fn schemas(&mut self, older: &Value, newer: &Value) {
        let (Value::Object(older), Value::Object(newer)) = (older, newer) else {
            if older != newer {
                self.found("a boolean schema changed");
            }
            return;
        };
        let keywords: BTreeSet<&str> =
            older.keys().chain(newer.keys()).map(String::as_str).collect();
        for keyword in keywords {
            self.keyword(keyword, older.get(keyword), newer.get(keyword));
        }
    }

    fn keyword(&mut self, keyword: &str, older: Option<&Value>, newer: Option<&Value>) {
        if older == newer || ANNOTATIONS.contains(&keyword) {
            return;
        }
        match keyword {
            "properties" | "$defs" => self.members(keyword, older, newer),
            "required" => self.required(older, newer),
            "enum" => self.values(older, newer),
            "additionalProperties" => self.additional(older, newer),
            "items" => match (older, newer) {
                (Some(older), Some(newer)) => {
                    self.within(&[keyword], |inner| inner.schemas(older, newer));
                }
                _ => self.found("the description of items was added or removed"),
            },
            _ if LOWER_BOUNDS.contains(&keyword) => self.bound(keyword, older, newer, f64::gt),
            _ if UPPER_BOUNDS.contains(&keyword) => self.bound(keyword, older, newer, f64::lt),
            _ => self.found(format!("{keyword} changed from {} to {}", text(older), text(newer))),
        }
    }

    fn members(&mut self, keyword: &str, older: Option<&Value>, newer: Option<&Value>) {
        let none = Map::new();
        let older = older.and_then(Value::as_object).unwrap_or(&none);
        let newer = newer.and_then(Value::as_object).unwrap_or(&none);
        for (name, before) in older {
            match newer.get(name) {
                Some(after) => self.within(&[keyword, name], |inner| inner.schemas(before, after)),
                None => self.found(format!("{name} was removed: older readers may need it")),
            }
        }
    }

    fn required(&mut self, older: Option<&Value>, newer: Option<&Value>) {
        let (older, newer) = (names(older), names(newer));
        for name in newer.difference(&older) {
            self.found(format!("{name} became required: older events do not have it"));
        }
        for name in older.difference(&newer) {
            self.found(format!("{name} is no longer required: older readers need it"));
        }
    }

    fn values(&mut self, older: Option<&Value>, newer: Option<&Value>) {
        let list = |values: Option<&Value>| values.and_then(Value::as_array).cloned();
        let (Some(older), Some(newer)) = (list(older), list(newer)) else {
            self.found("the list of values was added or removed");
            return;
        };
        for value in newer.iter().filter(|value| !older.contains(value)) {
            self.found(format!("the value {value} was added: older readers refuse it"));
        }
        for value in older.iter().filter(|value| !newer.contains(value)) {
            self.found(format!("the value {value} was removed: older events have it"));
        }
    }

    /// Readers ignore unknown properties, so only a schema for them matters.
    fn additional(&mut self, older: Option<&Value>, newer: Option<&Value>) {
        let described = |schema: Option<&Value>| schema.is_some_and(Value::is_object);
        match (older, newer) {
            (Some(before), Some(after)) if described(older) && described(newer) => {
                self.within(&["additionalProperties"], |inner| inner.schemas(before, after));
            }
            _ if described(older) || described(newer) => {
                self.found("the description of additional properties was added or removed");
            }
            _ => {}
        }
    }

    fn bound(
        &mut self,
        keyword: &str,
        older: Option<&Value>,
        newer: Option<&Value>,
        narrows: fn(&f64, &f64) -> bool,
    ) {
        let number = |bound: Option<&Value>| bound.and_then(Value::as_f64);
        let narrowed = match (number(older), number(newer)) {
            (Some(older), Some(newer)) => narrows(&newer, &older),
            (_, newer) => newer.is_some(),
        };
        if narrowed {
            let (older, newer) = (text(older), text(newer));
            self.found(format!(
                "{keyword} narrowed from {older} to {newer}: older events may exceed it"
            ));
        }
    }
}

fn names(list: Option<&Value>) -> BTreeSet<&str> {
    list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

fn text(value: Option<&Value>) -> String {
    value.map_or_else(|| "nothing".to_owned(), Value::to_string)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn base() -> Value {
        json!({
            "$id": "https://example.com/parcel.shipped/1.0.json",
            "type": "object",
            "additionalProperties": false,
            "required": ["parcel", "grams"],
            "properties": {
                "parcel": { "type": "string", "maxLength": 40, "pattern": "^P" },
                "grams": { "type": "integer", "minimum": 1, "maximum": 1000 },
                "speed": { "enum": ["slow", "fast"] },
                "shipped_at": { "type": "string", "format": "date-time" },
                "lines": { "type": "array", "maxItems": 9, "items": { "$ref": "#/$defs/line" } }
            },
            "$defs": { "line": { "type": "object", "required": ["sku"],
                "properties": { "sku": { "type": "string" }, "note": { "type": "string" } } } }
        })
    }

    fn changed(pointer: &str, value: Value) -> Vec<String> {
        let mut newer = base();
        *newer.pointer_mut(pointer).expect(pointer) = value;
        breaks(&base(), &newer).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn additions_and_wider_bounds_are_no_break() {
        for (pointer, value) in [
            ("/$id", json!("https://example.com/parcel.shipped/1.1.json")),
            ("/properties/grams/maximum", json!(2000)),
            ("/properties/grams/minimum", json!(0)),
            ("/properties/parcel/maxLength", json!(80)),
            ("/properties/lines/maxItems", json!(10)),
        ] {
            assert_eq!(changed(pointer, value), [""; 0], "{pointer}");
        }
        let mut newer = base();
        newer["properties"]["note"] = json!({ "type": "string", "maxLength": 10 });
        newer["$defs"]["line"]["properties"]["colour"] = json!({ "enum": ["red"] });
        newer["description"] = json!("with a note");
        assert_eq!(breaks(&base(), &newer), []);
    }

    #[test]
    fn every_change_that_a_side_does_not_survive_is_found_with_its_place() {
        for (pointer, value, expected) in [
            ("/required", json!(["parcel", "grams", "speed"]), ": speed became required"),
            ("/required", json!(["parcel"]), ": grams is no longer required"),
            ("/properties/parcel/maxLength", json!(20), "/properties/parcel: maxLength narrowed"),
            ("/properties/grams/minimum", json!(2), "/properties/grams: minimum narrowed"),
            ("/properties/grams/maximum", json!(999.5), "/properties/grams: maximum narrowed"),
            ("/properties/lines/maxItems", json!(5), "/properties/lines: maxItems narrowed"),
            (
                "/properties/speed/enum",
                json!(["slow", "fast", "same day"]),
                "\"same day\" was added",
            ),
            ("/properties/speed/enum", json!(["slow"]), "\"fast\" was removed"),
            ("/properties/grams/type", json!("number"), "/properties/grams: type changed"),
            ("/properties/shipped_at/format", json!("date"), "/properties/shipped_at: format"),
            ("/properties/parcel/pattern", json!("^Q"), "/properties/parcel: pattern changed"),
            (
                "/properties/speed",
                json!({}),
                "/properties/speed: the list of values was added or removed",
            ),
            ("/$defs/line/required", json!(["sku", "note"]), "/$defs/line: note became required"),
            ("/properties/lines/items", json!({}), "/properties/lines/items: $ref changed"),
        ] {
            let found = changed(pointer, value);
            assert!(found.len() == 1 && found[0].contains(expected), "{pointer}: {found:?}");
        }
    }

    #[test]
    fn a_removed_property_and_a_new_bound_are_breaks() {
        let mut newer = base();
        newer["properties"].as_object_mut().expect("an object").remove("speed");
        newer["properties"]["shipped_at"]["maxLength"] = json!(20);
        let found: Vec<_> = breaks(&base(), &newer).iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), 2, "{found:?}");
        for expected in ["speed was removed", "maxLength narrowed from nothing to 20"] {
            assert!(found.iter().any(|it| it.contains(expected)), "{found:?}");
        }
    }
}
