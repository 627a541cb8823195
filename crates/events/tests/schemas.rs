//! Checks that the contract in `schemas/` is complete, strict for publishers, and compatible within
//! a major version.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use envelope::{Event, Schema, breaks};
use events::{
    InvoiceCredited, InvoiceIssued, OrderCancelled, OrderCompleted, OrderCreated, OrderUpdated,
    SCHEMAS, example,
};
use serde_json::{Value, json};

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

fn schema_of(event_type: &str) -> &'static Schema {
    match event_type {
        OrderCreated::TYPE => OrderCreated::SCHEMA,
        OrderUpdated::TYPE => OrderUpdated::SCHEMA,
        OrderCompleted::TYPE => OrderCompleted::SCHEMA,
        OrderCancelled::TYPE => OrderCancelled::SCHEMA,
        InvoiceIssued::TYPE => InvoiceIssued::SCHEMA,
        InvoiceCredited::TYPE => InvoiceCredited::SCHEMA,
        other => panic!("no type for {other}: add it here"),
    }
}

/// Deserialises an example as its type, and serialises it again.
fn read_and_write(event_type: &str, data: &Value) -> serde_json::Result<Value> {
    fn through<E: Event>(data: &Value) -> serde_json::Result<Value> {
        serde_json::to_value(serde_json::from_value::<E>(data.clone())?)
    }
    match event_type {
        OrderCreated::TYPE => through::<OrderCreated>(data),
        OrderUpdated::TYPE => through::<OrderUpdated>(data),
        OrderCompleted::TYPE => through::<OrderCompleted>(data),
        OrderCancelled::TYPE => through::<OrderCancelled>(data),
        InvoiceIssued::TYPE => through::<InvoiceIssued>(data),
        InvoiceCredited::TYPE => through::<InvoiceCredited>(data),
        other => panic!("no type for {other}: add it here"),
    }
}

/// Returns the files under `schemas/`: for each type, the schemas by (major, minor).
fn files() -> BTreeMap<String, BTreeMap<(u32, u32), Value>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas");
    let entries = |folder: &Path| {
        let entries = std::fs::read_dir(folder).expect("a folder");
        entries.map(|entry| entry.expect("an entry").path()).collect::<Vec<_>>()
    };
    let name = |path: &Path| path.file_stem().expect("a name").to_string_lossy().into_owned();
    let is_schema = |path: &Path| path.extension().is_some_and(|extension| extension == "json");
    let types = entries(&root).into_iter().filter(|path| {
        // Descriptions of HTTP interfaces are not event types.
        path.is_dir() && path.file_name().is_some_and(|name| name != "http")
    });
    let versions = |folder: &Path| {
        let files = entries(folder).into_iter().filter(|path| is_schema(path)).map(|path| {
            let version = name(&path);
            let (major, minor) = version.split_once('.').expect("<major>.<minor>.json");
            let version = (major.parse().expect("a major"), minor.parse().expect("a minor"));
            (version, json(&std::fs::read_to_string(&path).expect("a file")))
        });
        files.collect()
    };
    types
        .map(|folder| {
            let event_type = folder.file_name().expect("a name").to_string_lossy().into_owned();
            (event_type, versions(&folder))
        })
        .collect()
}

#[test]
fn every_file_in_schemas_is_known() {
    let files = files();
    let found = files.iter().flat_map(|(event_type, versions)| {
        versions.keys().map(move |(major, minor)| format!("{event_type}/{major}.{minor}"))
    });
    let known = SCHEMAS.iter().map(|file| format!("{}/{}", file.event_type, file.version));
    assert_eq!(found.collect::<BTreeSet<_>>(), known.collect());
}

#[test]
fn each_type_is_published_by_the_newest_of_its_schemas() {
    for (event_type, versions) in files() {
        let newest = versions.values().next_back().expect("a schema");
        assert_eq!(json(schema_of(&event_type).text()), *newest, "{event_type}");
    }
}

#[test]
fn each_schema_names_itself_and_accepts_its_example() {
    for file in SCHEMAS {
        let schema = json(file.schema);
        let name = format!("/{}/{}.json", file.event_type, file.version);
        assert!(schema["$id"].as_str().expect("an $id").ends_with(&name), "{schema}");
        let validator = jsonschema::draft202012::options().should_validate_formats(true);
        let validator = validator.build(&schema).expect("compiles");
        validator.validate(&json(file.example)).expect("its own example");
    }
}

#[test]
fn within_a_major_either_side_may_be_deployed_first() {
    for (event_type, versions) in files() {
        for (older, older_schema) in &versions {
            for (newer, newer_schema) in versions.range(older..) {
                if newer.0 == older.0 {
                    let breaks = breaks(older_schema, newer_schema);
                    assert_eq!(breaks, [], "{event_type}: from {older:?} to {newer:?}");
                }
            }
        }
    }
}

#[test]
fn todays_types_read_every_example_and_lose_only_what_they_do_not_know() {
    for file in SCHEMAS {
        let mut data = json(file.example);
        data["added_in_some_later_minor"] = json!({"deep": [1, 2]});
        let written = read_and_write(file.event_type, &data).expect("unknown fields are ignored");
        assert!(written.get("added_in_some_later_minor").is_none());
        schema_of(file.event_type)
            .check("", &written)
            .expect("what a type writes its schema accepts");
    }
}

#[test]
fn publishing_is_strict() {
    let refused = |change: fn(&mut Value)| {
        let mut data = json(example(OrderCompleted::TYPE).expect("a known type"));
        change(&mut data);
        let checked = OrderCompleted::SCHEMA.check(OrderCompleted::TYPE, &data);
        checked.expect_err("refused").to_string()
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
fn an_order_that_was_cancelled_while_it_was_open_was_completed_at_no_time() {
    let mut data = json(example(OrderCancelled::TYPE).expect("a known type"));
    drop(data.as_object_mut().map(|data| data.remove("completed_at")));
    let event: OrderCancelled = serde_json::from_value(data.clone()).expect("it may be absent");
    assert_eq!(event.completed_at, None);
    assert_eq!(serde_json::to_value(&event).expect("JSON"), data, "and stays absent");
    OrderCancelled::SCHEMA.check(OrderCancelled::TYPE, &data).expect("accepted");
    data["completed_at"] = Value::Null;
    OrderCancelled::SCHEMA.check(OrderCancelled::TYPE, &data).expect_err("null is no time");
}
