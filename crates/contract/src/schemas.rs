use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

/// The schemas of a document: as written for requests, and stricter for responses.
#[derive(Debug)]
pub(crate) struct Schemas {
    components: Value,
    strict: Value,
}

impl Schemas {
    pub(crate) fn new(document: &Value) -> Self {
        let components = &document["components"];
        let mut parts = BTreeSet::new();
        collect_parts(document, false, &mut parts);
        let mut strict = components.clone();
        let schemas = strict["schemas"].as_object_mut().into_iter().flatten();
        for (name, schema) in schemas {
            if !parts.contains(name) {
                close(schema);
            }
        }
        Self { components: components.clone(), strict }
    }

    /// Returns the violations of a schema in the body of a request.
    pub(crate) fn request(&self, schema: &Value, body: &Value) -> Vec<String> {
        violations(schema, &self.components, body)
    }

    /// Returns the violations of a schema in the body of a response. An undocumented field is a
    /// violation, too: clients may ignore it, but the service should not have written it.
    pub(crate) fn response(&self, schema: &Value, body: &Value) -> Vec<String> {
        let mut schema = schema.clone();
        close(&mut schema);
        violations(&schema, &self.strict, body)
    }
}

fn violations(schema: &Value, components: &Value, body: &Value) -> Vec<String> {
    let mut root = schema.clone();
    // The references `#/components/schemas/..` need it.
    root["components"] = components.clone();
    let options = jsonschema::draft202012::options().should_validate_formats(true);
    match options.build(&root) {
        Ok(validator) => {
            let sentence = |error: jsonschema::ValidationError<'_>| {
                format!("{} {error}", error.instance_path().as_str()).trim().to_owned()
            };
            validator.iter_errors(body).map(sentence).collect()
        }
        Err(error) => vec![format!("the schema can't be used: {error}")],
    }
}

/// Collects the names of schemas that are parts of others. If they were closed, they would refuse
/// the fields of the other parts.
fn collect_parts(schema: &Value, in_all_of: bool, parts: &mut BTreeSet<String>) {
    match schema {
        Value::Object(members) => {
            let name = members.get("$ref").and_then(Value::as_str);
            if let (true, Some(name)) = (in_all_of, name.and_then(|it| it.rsplit('/').next())) {
                parts.insert(name.to_owned());
            }
            for (key, value) in members {
                collect_parts(value, key == "allOf", parts);
            }
        }
        Value::Array(values) => {
            for value in values {
                collect_parts(value, in_all_of, parts);
            }
        }
        _ => {}
    }
}

/// Makes the objects of a schema refuse fields that it does not name.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            if members.contains_key("allOf") {
                members.insert("unevaluatedProperties".to_owned(), json!(false));
            } else if members.get("properties").is_some_and(Value::is_object) {
                members.entry("additionalProperties").or_insert(json!(false));
            }
            close_members(members);
        }
        Value::Array(values) => values.iter_mut().for_each(close),
        _ => {}
    }
}

fn close_members(members: &mut Map<String, Value>) {
    for (key, value) in members {
        match key.as_str() {
            // A part alone lacks the fields of the others.
            "allOf" => {}
            "properties" => {
                value.as_object_mut().into_iter().flat_map(Map::values_mut).for_each(close);
            }
            _ => close(value),
        }
    }
}
