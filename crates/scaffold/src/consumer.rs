use crate::catalogue::{self, EventType};
use crate::edit::{insert_before, insert_sorted, missing_anchor};
use crate::format::formatted;
use crate::name::{self, in_pascal_case};
use crate::refusals::Refusals;
use crate::{Error, Tree};

/// Rights and topics of a Kafka on which services may not create anything.
const RIGHTS: &str = "deploy/secure/init-kafka";

/// Data that the handler stores.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A row for each order.
    Row,
    /// A running sum for each tenant and currency.
    Sum,
}

/// The requested consumer.
#[derive(Clone, Debug)]
pub struct Consumer {
    /// Name of its module and table; with the service's name, also of its group.
    pub name: String,
    /// Event type, such as `order.completed`.
    pub event: String,
    /// The service to which it is added.
    pub service: String,
    /// Data that the handler stores.
    pub kind: Kind,
}

struct Templates {
    migration: &'static str,
    handler: &'static str,
    test: &'static str,
}

impl Kind {
    fn templates(self) -> Templates {
        match self {
            Self::Row => Templates {
                migration: include_str!("../templates/consumer/row/migration.sql"),
                handler: include_str!("../templates/consumer/row/handler.rs"),
                test: include_str!("../templates/consumer/row/test.rs"),
            },
            Self::Sum => Templates {
                migration: include_str!("../templates/consumer/sum/migration.sql"),
                handler: include_str!("../templates/consumer/sum/handler.rs"),
                test: include_str!("../templates/consumer/sum/test.rs"),
            },
        }
    }
}

impl Consumer {
    /// Returns the name of its subscription and consumer group.
    pub fn group(&self) -> String {
        format!("{}.{}", self.service, self.name)
    }

    /// Returns the path of its handler.
    pub fn handler(&self) -> String {
        format!("services/{}/src/consumers/{}.rs", self.service, self.name)
    }

    /// Returns the path of its test.
    pub fn test(&self) -> String {
        format!("services/{}/tests/it/{}.rs", self.service, self.name)
    }

    fn type_name(&self) -> String {
        format!("{}Projection", in_pascal_case(&self.name))
    }

    /// Fills in the placeholders of a template.
    fn fill(&self, template: &str, event: &EventType) -> String {
        let values = [
            ("{{name}}", &*self.name),
            ("{{Projection}}", &self.type_name()),
            ("{{service}}", &self.service),
            ("{{group}}", &self.group()),
            ("{{event}}", &self.event),
            ("{{Event}}", &event.rust),
            ("{{.order}}", &event.order),
        ];
        values.iter().fold(template.to_owned(), |text, (name, value)| text.replace(name, value))
    }
}

/// Adds a consumer to the tree, in memory: migration, handler, registration, and a test that fails
/// until the handler is completed.
///
/// # Errors
/// [`Error::Refused`] if the name is invalid or taken, or the service or event type does not exist;
/// [`Error::NoPlace`] if a file is not as expected. The tree may then contain some of the changes:
/// do not write it.
pub fn add(tree: &mut Tree, wanted: &Consumer) -> Result<(), Error> {
    let event = check(tree, wanted)?;
    let (service, name) = (&wanted.service, &wanted.name);
    let templates = wanted.kind.templates();
    let migration = format!("services/{service}/migrations/{:04}_{name}.sql", next(tree, service));
    tree.set(migration, wanted.fill(templates.migration, &event));
    tree.set(wanted.handler(), formatted(wanted.fill(templates.handler, &event)));
    tree.set(wanted.test(), formatted(wanted.fill(templates.test, &event)));
    let [handlers, tests] = modules(service);
    enter_module(tree, &handlers, "pub(crate) mod ", name)?;
    enter_module(tree, &tests, "mod ", name)?;
    register(tree, wanted)?;
    permit(tree, wanted)
}

/// Returns the event type. Fails if the request can't be fulfilled.
fn check(tree: &Tree, wanted: &Consumer) -> Result<EventType, Error> {
    let Consumer { name, event, service, .. } = wanted;
    let mut refusals = Refusals::default();
    let is_name = refusals.add(name::refused(name));
    let service = refusals.take(catalogue::check_consumer(tree, service))?;
    if is_name && service.is_some() {
        let taken = taken(tree, wanted)?;
        refusals.add(taken.map(|by| format!("NAME={name} is taken by {by}")));
    }
    match refusals.take(catalogue::event_type(tree, event))? {
        Some(event) if refusals.is_empty() => Ok(event),
        _ => Err(refusals.into_error()),
    }
}

/// Returns what has the name already.
fn taken(tree: &Tree, wanted: &Consumer) -> Result<Option<String>, Error> {
    let Consumer { name, service, .. } = wanted;
    let paths = [wanted.handler(), wanted.test(), format!("services/{service}/src/{name}.rs")];
    if let Some(path) = paths.into_iter().find(|path| tree.has(path)) {
        return Ok(Some(path));
    }
    for path in modules(service) {
        // A crate that is imported beside the module's declaration would be ambiguous.
        let imports = format!("use {name}::");
        if tree.read(&path)?.lines().any(|line| line.trim_start().starts_with(&imports)) {
            return Ok(Some(format!("the crate {name}, which {path} imports")));
        }
    }
    let tables = [name.clone(), format!("{name}_order")];
    if let Some(table) = catalogue::tables(tree, service)?.iter().find(|it| tables.contains(it)) {
        return Ok(Some(format!("the table {table} in the database of {service}")));
    }
    let app = tree.read(&format!("services/{service}/src/app.rs"))?;
    if app.contains(&format!("\"{}\"", wanted.group())) {
        return Ok(Some(format!("the subscription {}", wanted.group())));
    }
    // `top_10` and `top10` make the same type.
    let handler = wanted.type_name();
    Ok(name::occurs(&handler, &app).then(|| format!("the handler {handler} of {service}")))
}

/// Returns the files that declare the modules of a service's handlers and of its tests.
fn modules(service: &str) -> [String; 2] {
    [
        format!("services/{service}/src/consumers/mod.rs"),
        format!("services/{service}/tests/it/main.rs"),
    ]
}

/// Returns the number of the service's next migration.
fn next(tree: &Tree, service: &str) -> u32 {
    let files = tree.names_in(&format!("services/{service}/migrations"));
    let numbers = files.iter().filter_map(|it| it.split_once('_')?.0.parse::<u32>().ok());
    numbers.max().unwrap_or(0) + 1
}

fn enter_module(tree: &mut Tree, path: &str, begins: &str, name: &str) -> Result<(), Error> {
    let text = insert_sorted(path, &tree.read(path)?, begins, &format!("{begins}{name};"))?;
    tree.set(path, text);
    Ok(())
}

/// Adds the subscription to the service's list.
fn register(tree: &mut Tree, wanted: &Consumer) -> Result<(), Error> {
    let path = format!("services/{}/src/app.rs", wanted.service);
    let (name, handler) = (&wanted.name, wanted.type_name());
    let import = format!("use crate::consumers::{name}::{handler};");
    let text = insert_sorted(&path, &tree.read(&path)?, "use crate::consumers::", &import)?;
    let subscription = format!(
        "        // One lane, because all subscriptions and routes of a service share its connections.
        .subscription_with(consumer::Options {{ lanes: 1, ..consumer::Options::default() }}, |_| {{
            consumer::Subscription::new(\"{}\").each_once({handler})
        }})",
        wanted.group()
    );
    let text = insert_before(&path, &text, ".routes(", &subscription)?;
    tree.set(path, formatted(text));
    Ok(())
}

/// Adds the group, and the service's right to read the event's topic, for a Kafka with ACLs.
fn permit(tree: &mut Tree, wanted: &Consumer) -> Result<(), Error> {
    let text = tree.read(RIGHTS)?;
    let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
    let groups = lines
        .iter()
        .position(|it| it.starts_with("groups=("))
        .ok_or_else(|| missing_anchor(RIGHTS, "groups=("))?;
    lines[groups] = lines[groups].replacen(')', &format!(" {})", wanted.group()), 1);
    let reads = format!("allow {} --operation Read", wanted.service);
    let reads = lines
        .iter()
        .position(|it| it.starts_with(&reads))
        .ok_or_else(|| missing_anchor(RIGHTS, &reads))?;
    // The previous line contains the topics, one by one or as their publisher's list.
    let is_read = lines[reads - 1].split(' ').any(|word| {
        let list = word.strip_prefix("\"${").and_then(|it| it.strip_suffix("[@]}\""));
        let of_list =
            list.and_then(|it| lines.iter().find_map(|line| line.strip_prefix(&format!("{it}=("))));
        word == wanted.event
            || of_list
                .is_some_and(|it| it.trim_end_matches(')').split(' ').any(|it| it == wanted.event))
    });
    if !is_read {
        lines[reads - 1] = format!("{} {}", lines[reads - 1], wanted.event);
    }
    tree.set(RIGHTS, lines.join("\n") + "\n");
    Ok(())
}
