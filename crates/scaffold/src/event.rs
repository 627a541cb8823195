use crate::catalogue;
use crate::edit::{insert_after_last, insert_before, insert_name, missing_anchor};
use crate::format::formatted;
use crate::name::{self, in_pascal_case};
use crate::refusals::Refusals;
use crate::{Error, Tree};

/// The event whose schema and type are copied: it contains the whole order and one time.
const PATTERN: &str = "order.completed";
const RIGHTS: &str = "deploy/secure/init-kafka";

/// The requested event type.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// Its name: `order.` and a past participle, such as `order.shipped`.
    pub event: String,
    /// The service that publishes it.
    pub service: String,
}

/// Adds an event type to the tree, in memory: its schema with an example, its Rust type, its topic,
/// and their entries.
///
/// # Errors
/// [`Error::Refused`] if the name is not of that form or taken, or the service publishes no events;
/// [`Error::NoPlace`] if a file is not as expected. The tree may then contain some of the changes:
/// do not write it.
pub fn add_event(tree: &mut Tree, wanted: &NewEvent) -> Result<(), Error> {
    let verb = check(tree, wanted)?;
    let (event, rust) = (&wanted.event, in_pascal_case(&wanted.event));
    let topic = event.replace('.', "_").to_uppercase();
    for file in ["1.0.json", "examples/1.0.json"] {
        let pattern = tree.read(&format!("schemas/{PATTERN}/{file}"))?;
        tree.set(format!("schemas/{event}/{file}"), schema(&pattern, event, &verb));
    }
    add_type(tree, event, &rust, &verb)?;
    edit(tree, "crates/events/src/order_event.rs", |path, text| {
        let text = insert_name(path, text, "use crate::{", &rust)?;
        insert_after_last(path, &text, "    Order", &format!("    {rust}(order)"))
    })?;
    edit(tree, "crates/events/src/schemas.rs", |path, text| {
        insert_before(path, text, "];", &format!("    \"{event}\" \"1.0\","))
    })?;
    edit(tree, "crates/events/src/topics.rs", |path, text| {
        topics(path, text, &rust, &topic, &wanted.service)
    })?;
    edit(tree, "crates/events/src/lib.rs", |path, text| {
        let text = insert_name(path, text, "pub use order::{", &rust)?;
        insert_name(path, &text, "pub use topics::{", &topic)
    })?;
    edit(tree, "crates/events/tests/schemas.rs", |path, text| tests(path, text, &rust))?;
    publish(tree, wanted, &topic)
}

fn edit(
    tree: &mut Tree,
    path: &str,
    change: impl Fn(&str, &str) -> Result<String, Error>,
) -> Result<(), Error> {
    let text = change(path, &tree.read(path)?)?;
    tree.set(path, formatted(text));
    Ok(())
}

/// Checks the request. Returns the past participle: `shipped`.
fn check(tree: &Tree, wanted: &NewEvent) -> Result<String, Error> {
    let NewEvent { event, service } = wanted;
    let is_verb = |it: &&str| name::is_identifier(it) && it.len() <= name::LONGEST;
    let verb = event.strip_prefix("order.").filter(is_verb);
    let mut refusals = Refusals::default();
    refusals.add(verb.is_none().then(|| {
        format!(
            "EVENT={event} is no name of an event: it must be order.NAME, where NAME is a past \
             participle of at most {} characters, such as order.shipped",
            name::LONGEST
        )
    }));
    let is_taken = verb.is_some() && tree.has(&format!("schemas/{event}"));
    refusals.add(is_taken.then(|| format!("EVENT={event} is taken by schemas/{event}")));
    if verb.is_some() && !is_taken {
        let rust = in_pascal_case(event);
        let is_taken = name::occurs(&rust, &tree.read("crates/events/src/lib.rs")?);
        refusals.add(is_taken.then(|| format!("EVENT={event} is taken by the type {rust}")));
    }
    refusals.take(catalogue::check_publisher(tree, service))?;
    match verb {
        Some(verb) if refusals.is_empty() => Ok(verb.to_owned()),
        _ => Err(refusals.into_error()),
    }
}

/// Returns the schema or example of [`PATTERN`] for another event.
fn schema(pattern: &str, event: &str, verb: &str) -> String {
    let text = pattern.replace(PATTERN, event).replace("completed_at", &format!("{verb}_at"));
    let lines = text.lines().map(|line| match line.split_once("\"description\": \"An order was completed") {
        Some((indent, _)) => format!(
            "{indent}\"description\": \"A completed order was {verb}. Carries the whole order as it was then.\","
        ),
        None => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

fn add_type(tree: &mut Tree, event: &str, rust: &str, verb: &str) -> Result<(), Error> {
    let path = "crates/events/src/order.rs";
    let item = include_str!("../templates/event/type.rs")
        .replace("{{Event}}", rust)
        .replace("{{verb}}", verb);
    let text = insert_before(path, &tree.read(path)?, "macro_rules! order_event", &item)?;
    let entry = format!(
        "order_event!({rust}, \"{event}\", order, \"../../../schemas/{event}/1.0.json\");\n"
    );
    tree.set(path, formatted(text + &entry));
    Ok(())
}

fn topics(path: &str, text: &str, rust: &str, topic: &str, service: &str) -> Result<String, Error> {
    let text = insert_name(path, text, "use crate::{", rust)?;
    let item = format!(
        "/// Topic of [`{rust}`], owned by the {service} service.\npub const {topic}: TopicSpec = TopicSpec::new({rust}::TYPE);\n\n"
    );
    let text = insert_before(path, &text, "/// Returns every topic of events", &item)?;
    let begins = "pub fn all_topics() -> [TopicSpec; ";
    let count =
        text.split(begins).nth(1).and_then(|it| it.split(']').next()?.parse::<usize>().ok());
    let count = count.ok_or_else(|| missing_anchor(path, begins))?;
    let text = text.replace(&format!("{begins}{count}]"), &format!("{begins}{}]", count + 1));
    insert_before(path, &text, "ORDER_CREATED,", &format!("        {topic},"))
}

fn tests(path: &str, text: &str, rust: &str) -> Result<String, Error> {
    let text = insert_name(path, text, "use events::{", rust)?;
    let begins = "OrderCompleted::TYPE => OrderCompleted::SCHEMA";
    let text =
        insert_before(path, &text, begins, &format!("        {rust}::TYPE => {rust}::SCHEMA,"))?;
    let begins = "OrderCompleted::TYPE => through";
    insert_before(path, &text, begins, &format!("        {rust}::TYPE => through::<{rust}>(data),"))
}

/// Adds the topic to those that the service creates, and to those that an administrator creates.
fn publish(tree: &mut Tree, wanted: &NewEvent, topic: &str) -> Result<(), Error> {
    let path = format!("services/{}/src/app.rs", wanted.service);
    let text = tree.read(&path)?;
    let text = insert_name(&path, &text, "use events::{", topic)?;
    let text = text.replacen(".publishes([", &format!(".publishes([{topic}, "), 1);
    tree.set(path, formatted(text));
    let (text, list) = (tree.read(RIGHTS)?, format!("\n{}=(", wanted.service));
    if !text.contains(&list) {
        return Err(missing_anchor(RIGHTS, &list));
    }
    tree.set(RIGHTS, text.replacen(&list, &format!("{list}{} ", wanted.event), 1));
    Ok(())
}
