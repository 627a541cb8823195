use crate::name::in_pascal_case;
use crate::{Error, Tree};

/// Lists the Rust type of each event about an order, and the field with the order.
const TYPES: &str = "crates/events/src/order_event.rs";

/// An event type that can be consumed.
pub(crate) struct EventType {
    /// Name of its Rust type, as in `OrderCompleted`.
    pub(crate) rust: String,
    /// Path from the event to the fields of the order: `.order`, `.0` or none.
    pub(crate) order: String,
}

/// Returns the event type with this name.
pub(crate) fn event_type(tree: &Tree, name: &str) -> Result<EventType, Error> {
    let mut known = event_types(tree)?;
    let found = known.iter().position(|(it, _)| it == name);
    let refused = |names: Vec<_>| {
        Error::Refused(format!("EVENT={name} is no event type; there are {}", names.join(", ")))
    };
    match found {
        Some(at) => Ok(known.swap_remove(at).1),
        None => Err(refused(known.into_iter().map(|(name, _)| name).collect())),
    }
}

/// Returns the event types that have both a schema and a Rust type.
fn event_types(tree: &Tree) -> Result<Vec<(String, EventType)>, Error> {
    let types = tree.read(TYPES)?;
    let list = types.lines().skip_while(|it| !it.starts_with("order_events! {"));
    // For example `OrderCompleted(order)`.
    let listed: Vec<_> = list
        .filter_map(|line| line.trim().strip_suffix(')')?.split_once('('))
        .map(|(rust, field)| EventType {
            rust: rust.to_owned(),
            order: if field.is_empty() { String::new() } else { format!(".{field}") },
        })
        .collect();
    let named = |rust: &str| {
        let mut schemas = tree.names_in("schemas").into_iter();
        schemas.find(|it| it.contains('.') && in_pascal_case(it) == rust)
    };
    Ok(listed.into_iter().filter_map(|it| Some((named(&it.rust)?, it))).collect())
}

/// Checks that a service consumes events.
pub(crate) fn check_consumer(tree: &Tree, service: &str) -> Result<(), Error> {
    let consumes = |it: &String| tree.has(&format!("services/{it}/src/consumers/mod.rs"));
    check_service(tree, service, "consumes", consumes)
}

/// Checks that a service publishes events.
pub(crate) fn check_publisher(tree: &Tree, service: &str) -> Result<(), Error> {
    check_service(tree, service, "publishes", |it| {
        let app = tree.read(&format!("services/{it}/src/app.rs"));
        app.is_ok_and(|text| text.contains(".publishes(["))
    })
}

fn check_service(
    tree: &Tree,
    service: &str,
    does: &str,
    condition: impl Fn(&String) -> bool,
) -> Result<(), Error> {
    let all = tree.names_in("services");
    let fitting: Vec<_> = all.iter().filter(|it| condition(it)).cloned().collect();
    if fitting.iter().any(|it| it == service) {
        return Ok(());
    }
    let why =
        if all.contains(service) { format!("{does} no events") } else { "is no service".into() };
    Err(Error::Refused(format!("SERVICE={service} {why}; there are {}", fitting.join(", "))))
}

/// Returns the tables of a service's database, including those of the crates, as named in `create
/// table`.
pub(crate) fn tables(tree: &Tree, service: &str) -> Result<Vec<String>, Error> {
    let crates =
        tree.names_in("crates").into_iter().map(|name| format!("crates/{name}/migrations"));
    let mut tables = Vec::new();
    for folder in crates.chain([format!("services/{service}/migrations")]) {
        for file in tree.names_in(&folder) {
            let text = tree.read(&format!("{folder}/{file}"))?.to_lowercase();
            let text = text.replace("create unlogged table ", "create table ");
            let names = text
                .split("create table ")
                .skip(1)
                .filter_map(|it| it.split([' ', '(', '\n']).next());
            tables.extend(names.map(str::to_owned));
        }
    }
    Ok(tables)
}
