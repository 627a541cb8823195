//! The contract in `schemas/`: complete, strict at publish, and compatible within a major.

use std::collections::BTreeSet;
use std::path::Path;

use events::{
    Event, InvoiceIssued, OrderCompleted, OrderCreated, OrderUpdated, SCHEMAS, SchemaFile, check,
};
use serde_json::{Value, json};

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

fn example(event_type: &str) -> Value {
    let file = SCHEMAS.iter().rfind(|file| file.event_type == event_type).expect("known type");
    json(file.example)
}

/// Reads an example as its type does, and gives back what the type would write.
fn read_and_write(event_type: &str, data: &Value) -> serde_json::Result<Value> {
    fn through<E: Event>(data: &Value) -> serde_json::Result<Value> {
        serde_json::to_value(serde_json::from_value::<E>(data.clone())?)
    }
    match event_type {
        OrderCreated::TYPE => through::<OrderCreated>(data),
        OrderUpdated::TYPE => through::<OrderUpdated>(data),
        OrderCompleted::TYPE => through::<OrderCompleted>(data),
        InvoiceIssued::TYPE => through::<InvoiceIssued>(data),
        other => panic!("no reader for {other}: add it here"),
    }
}

/// What stands between an older and a newer minor of one major, so that either side may be
/// deployed first. Empty: nothing.
fn breaks(older: &SchemaFile, newer: &SchemaFile) -> Vec<String> {
    let validator = |schema: &Value| jsonschema::draft202012::new(schema).expect("compiles");
    let mut breaks = Vec::new();
    if let Err(error) = validator(&json(newer.schema)).validate(&json(older.example)) {
        breaks.push(format!("the newer schema refuses the older example: {error}"));
    }
    if let Err(error) = validator(&tolerant(json(older.schema))).validate(&json(newer.example)) {
        breaks.push(format!("an older reader refuses the newer example: {error}"));
    }
    breaks
}

/// The schema as a reader of that version would take it: additions are ignored.
fn tolerant(mut schema: Value) -> Value {
    match &mut schema {
        Value::Object(object) => {
            object.remove("additionalProperties");
            object.values_mut().for_each(|value| *value = tolerant(value.take()));
        }
        Value::Array(array) => array.iter_mut().for_each(|value| *value = tolerant(value.take())),
        _ => {}
    }
    schema
}

#[test]
fn every_file_in_schemas_is_known() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas");
    let files = |dir: &Path| {
        let entries =
            std::fs::read_dir(dir).expect("a folder").map(|entry| entry.expect("an entry").path());
        entries.filter(|path| path.extension().is_some_and(|ext| ext == "json")).collect::<Vec<_>>()
    };
    let mut found = BTreeSet::new();
    for folder in std::fs::read_dir(&root).expect("schemas/") {
        let folder = folder.expect("an entry").path();
        if folder.is_dir() {
            for file in files(&folder) {
                assert!(
                    folder.join("examples").join(file.file_name().expect("a name")).exists(),
                    "{file:?}"
                );
                let version = file.file_stem().expect("a name").to_string_lossy().into_owned();
                found
                    .insert(format!("{}/{version}", folder.file_name().expect("a name").display()));
            }
        }
    }
    let known =
        SCHEMAS.iter().map(|f| format!("{}/{}.{}", f.event_type, f.version.major, f.version.minor));
    assert_eq!(found, known.collect());
}

#[test]
fn each_schema_accepts_its_example_and_names_itself() {
    for file in SCHEMAS {
        check(file.event_type, file.version, &json(file.example)).expect("its own example");
        assert_eq!(json(file.schema)["$id"], file.version.uri(file.event_type));
    }
}

#[test]
fn within_a_major_either_side_may_be_deployed_first() {
    for newer in SCHEMAS {
        let written = read_and_write(newer.event_type, &json(newer.example));
        assert!(written.is_ok(), "today's reader refuses {} {:?}", newer.event_type, newer.version);
        for older in SCHEMAS.iter().filter(|older| {
            older.event_type == newer.event_type
                && older.version.major == newer.version.major
                && older.version.minor < newer.version.minor
        }) {
            assert_eq!(breaks(older, newer), Vec::<String>::new(), "{}", newer.event_type);
        }
    }
}

/// The proof above has nothing to compare while there is one minor each, so it is shown here that it can fail.
#[test]
fn the_compatibility_proof_sees_a_breaking_change() {
    let base = SCHEMAS[0];
    let with = |change: fn(&mut Value, &mut Value)| {
        let (mut schema, mut example) = (json(base.schema), json(base.example));
        change(&mut schema, &mut example);
        let leak = |value: Value| -> &'static str { value.to_string().leak() };
        breaks(&base, &SchemaFile { schema: leak(schema), example: leak(example), ..base })
    };

    let optional_field_added = with(|schema, example| {
        schema["properties"]["note"] = json!({"type": "string"});
        example["note"] = json!("ring twice");
    });
    assert_eq!(optional_field_added, Vec::<String>::new());

    let required_field_added = with(|schema, example| {
        schema["properties"]["note"] = json!({"type": "string"});
        schema["required"].as_array_mut().expect("an array").push(json!("note"));
        example["note"] = json!("ring twice");
    });
    assert_eq!(required_field_added.len(), 1, "{required_field_added:?}");

    let field_removed = with(|schema, example| {
        schema["properties"].as_object_mut().expect("an object").remove("total");
        schema["required"].as_array_mut().expect("an array").retain(|name| name != "total");
        example.as_object_mut().expect("an object").remove("total");
    });
    assert_eq!(field_removed.len(), 2, "{field_removed:?}");

    let type_changed = with(|schema, example| {
        schema["properties"]["total"] = json!({"type": "string"});
        example["total"] = json!("21.90");
    });
    assert_eq!(type_changed.len(), 2, "{type_changed:?}");
}

#[test]
fn reading_is_tolerant_and_loses_only_what_it_does_not_know() {
    for file in SCHEMAS {
        let mut data = json(file.example);
        data["added_in_some_later_minor"] = json!({"deep": [1, 2]});
        let written = read_and_write(file.event_type, &data).expect("unknown fields are ignored");
        assert!(written.get("added_in_some_later_minor").is_none());
        check(file.event_type, file.version, &written)
            .expect("what a type writes its schema accepts");
    }
}

#[test]
fn publishing_is_strict() {
    let order = OrderCompleted::TYPE;
    let refused = |change: fn(&mut Value)| {
        let mut data = example(order);
        change(&mut data);
        check(order, OrderCompleted::SCHEMA, &data).expect_err("refused").to_string()
    };
    assert!(refused(|data| data["surprise"] = json!(1)).contains("surprise"));
    assert!(refused(|data| data["currency"] = json!("euro")).contains("/currency"));
    assert!(refused(|data| data["customer_email"] = json!("nobody")).contains("/customer_email"));
    assert!(refused(|data| data["items"] = json!([])).contains("/items"));
    assert!(refused(|data| data["items"][0]["quantity"] = json!(0)).contains("/items/0/quantity"));
    assert!(refused(|data| data["total"] = json!(1_u64 << 53)).contains("/total"));
    assert!(refused(|data| data["status"] = json!("open")).contains("/status"));
    assert!(refused(|data| data["completed_at"] = json!("yesterday")).contains("/completed_at"));
    assert!(
        refused(|data| drop(data.as_object_mut().map(|data| data.remove("tenant_id"))))
            .contains("tenant_id")
    );
}

#[test]
fn a_schema_that_does_not_exist_is_refused_and_named() {
    let version = events::SchemaVersion { major: 9, minor: 0 };
    let error =
        check("order.completed", version, &example("order.completed")).expect_err("refused");
    assert_eq!(error.to_string(), "order.completed 9.0 refuses the data: there is no such schema");
}
