//! Generated files, and refused requests.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use scaffold::{Consumer, Kind, NewEvent, Tree};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn consumer(name: &str, event: &str, service: &str, kind: Kind) -> Consumer {
    Consumer { name: name.into(), event: event.into(), service: service.into(), kind }
}

fn added(wanted: &Consumer) -> Tree {
    let mut tree = Tree::new(root());
    scaffold::add(&mut tree, wanted).unwrap();
    tree
}

/// Returns whether the code is formatted, as `make lint` checks.
fn is_formatted(code: &str) -> bool {
    let mut rustfmt = Command::new("rustfmt")
        .args(["--edition", "2024", "--check", "--config-path"])
        .arg(root().join("rustfmt.toml"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    rustfmt.stdin.take().unwrap().write_all(code.as_bytes()).unwrap();
    rustfmt.wait().unwrap().success()
}

const EVENTS: [&str; 6] = [
    "order.created",
    "order.updated",
    "order.completed",
    "order.cancelled",
    "invoice.issued",
    "invoice.credited",
];

#[test]
fn every_service_gets_either_kind_of_every_event() {
    for (service, events) in [("analytics", 0..6), ("billing", 1..3), ("notification", 3..5)] {
        for at in events {
            let event = EVENTS[at];
            let kind = if at % 2 == 0 { Kind::Row } else { Kind::Sum };
            let tree = added(&consumer("values_of_all", event, service, kind));
            let texts: Vec<_> = tree.changed().collect();
            assert_eq!(texts.len(), 7, "{texts:?}");
            for (path, text) in texts {
                assert!(!text.contains("{{"), "{path}: {text}");
                let is_rust = Path::new(path).extension().is_some_and(|it| it == "rs");
                assert!(!is_rust || is_formatted(text), "{service} {event}: {path}\n{text}");
            }
            let app = tree.read(&format!("services/{service}/src/app.rs")).unwrap();
            let group = format!("{service}.values_of_all");
            assert!(app.contains(&format!("Subscription::new(\"{group}\")")), "{app}");
            for module in ["src/consumers/mod.rs", "tests/it/main.rs"] {
                let text = tree.read(&format!("services/{service}/{module}")).unwrap();
                assert!(text.contains("mod values_of_all;\n"), "{text}");
            }
            let rights = tree.read("deploy/secure/init-kafka").unwrap();
            assert!(rights.contains(&format!(" {group})\n")), "{rights}");
        }
    }
}

#[test]
fn a_service_may_read_the_topic_of_what_it_consumes() {
    let before = "order=(order.created order.completed)\ngroups=(billing)\n\
                  these order.completed\nallow billing --operation Read \"${topics[@]}\"\n\
                  these \"${order[@]}\"\nallow analytics --operation Read \"${topics[@]}\"\n";
    let changed = |event: &str, service: &str| {
        let mut tree = Tree::new(root());
        tree.set("deploy/secure/init-kafka", before.into());
        scaffold::add(&mut tree, &consumer("values_of_all", event, service, Kind::Row)).unwrap();
        let after = tree.read("deploy/secure/init-kafka").unwrap();
        let changed = after.lines().zip(before.lines()).filter(|(after, before)| after != before);
        changed.map(|(after, _)| after.to_owned()).collect::<Vec<_>>()
    };
    let group = |service: &str| format!("groups=(billing {service}.values_of_all)");
    assert_eq!(changed("order.created", "analytics"), [group("analytics")], "by a list of topics");
    assert_eq!(changed("order.completed", "billing"), [group("billing")], "by its name");
    let expected = [group("billing"), "these order.completed order.created".to_owned()];
    assert_eq!(changed("order.created", "billing"), expected);
}

#[test]
fn migrations_are_numbered_and_consumers_are_added_side_by_side() {
    let mut tree = Tree::new(root());
    for name in ["first_values", "second_values"] {
        let wanted = consumer(name, "order.completed", "notification", Kind::Sum);
        scaffold::add(&mut tree, &wanted).unwrap();
    }
    let migrations = tree.names_in("services/notification/migrations");
    let number = |name: &str| {
        let file = migrations.iter().find(|it| it.ends_with(name)).unwrap();
        file.split_once('_').unwrap().0.parse::<u32>().unwrap()
    };
    assert_eq!(number("_first_values.sql") + 1, number("_second_values.sql"));
    assert!(migrations.last().is_some_and(|it| it.ends_with("_second_values.sql")));
    let again = consumer("first_values", "order.created", "notification", Kind::Row);
    let error = scaffold::add(&mut tree, &again).unwrap_err().to_string();
    assert!(error.starts_with("NAME=first_values is taken by "), "{error}");
}

/// Copies the files that the generator reads.
fn copy() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let paths = [
        "schemas",
        "services/analytics",
        "services/order",
        "crates/events",
        "crates/consumer/migrations",
        "deploy/secure/init-kafka",
    ];
    for path in paths {
        let to = folder.path().join(path);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        let copied = Command::new("cp").arg("-R").arg(root().join(path)).arg(&to).status().unwrap();
        assert!(copied.success(), "{path}");
    }
    folder
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_scaffold");
    Command::new(program).args(arguments).current_dir(folder).output().unwrap()
}

/// Returns every file and its text.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(folder).unwrap().map(|it| it.unwrap().path());
    let mut files: Vec<_> = entries
        .flat_map(|path| {
            if path.is_dir() { files(&path) } else { vec![(path.clone(), fs::read(path).unwrap())] }
        })
        .collect();
    files.sort();
    files
}

#[test]
fn what_is_written_is_reported() {
    let folder = copy();
    let below = folder.path().join("services/analytics");
    let arguments =
        ["consumer", "NAME=values", "EVENT=order.completed", "SERVICE=analytics", "KIND=sum"];
    let output = run(&below, &arguments);
    let report = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{report}");
    for path in [
        "new     services/analytics/migrations/",
        "new     services/analytics/src/consumers/values.rs",
        "new     services/analytics/tests/it/values.rs",
        "changed services/analytics/src/app.rs",
    ] {
        assert!(report.contains(path), "{report}");
    }
    let handler = fs::read_to_string(below.join("src/consumers/values.rs")).unwrap();
    assert!(handler.contains("insert into values_order (order_id)"), "{handler}");
}

#[test]
fn what_can_not_be_used_is_named_in_one_sentence_and_nothing_is_written() {
    let folder = copy();
    let before = files(folder.path());
    let fine = [
        "consumer",
        "NAME=values_of_all",
        "EVENT=order.completed",
        "SERVICE=analytics",
        "KIND=row",
    ];
    let mut tried = 0;
    for (wrong, expected) in [
        ("NAME=", "NAME is missing: make new-consumer"),
        ("EVENT=", "EVENT is missing: make new-consumer"),
        ("SERVICE=", "SERVICE is missing: make new-consumer"),
        ("KIND=table", "KIND=table is no kind; there are row and sum"),
        ("COLOUR=red", "COLOUR=red is no variable"),
        ("NAME=Values-1", "NAME=Values-1 is no identifier"),
        ("NAME=../../values", "NAME=../../values is no identifier"),
        ("NAME=select", "NAME=select is a reserved word"),
        ("NAME=consumers", "NAME=consumers is used within the generated code"),
        ("NAME=basket", "NAME=basket is taken by services/analytics/src/consumers/basket.rs"),
        ("NAME=house", "NAME=house is taken by services/analytics/tests/it/house.rs"),
        ("NAME=tracked", "NAME=tracked is taken by the table tracked in the database of analytics"),
        ("NAME=inbox", "NAME=inbox is taken by the table inbox in the database of analytics"),
        (
            "EVENT=order.lost",
            "EVENT=order.lost is no event type; there are order.created, order.updated, ",
        ),
        ("SERVICE=order", "SERVICE=order consumes no events; there are analytics"),
        ("SERVICE=..", "SERVICE=.. is no service; there are analytics"),
    ] {
        let name = wrong.split_once('=').unwrap().0;
        let others = fine[1..].iter().filter(|it| !it.starts_with(&format!("{name}=")));
        let arguments: Vec<_> =
            ["consumer"].into_iter().chain(others.copied()).chain([wrong]).collect();
        let output = run(folder.path(), &arguments);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{wrong}: {error}");
        assert!(error.starts_with(expected), "{wrong}: {error}");
        assert_eq!(error.trim_end().lines().count(), 1, "{wrong}: {error}");
        assert!(output.stdout.is_empty());
        tried += 1;
    }
    assert_eq!(tried, 16);
    assert_eq!(files(folder.path()), before);

    fs::write(folder.path().join("services/analytics/src/app.rs"), "// no list\n").unwrap();
    let before = files(folder.path());
    let output = run(folder.path(), &fine);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.starts_with("services/analytics/src/app.rs has no line `use crate::"), "{error}");
    assert_eq!(files(folder.path()), before);
    let elsewhere = tempfile::tempdir().unwrap();
    assert_eq!(run(elsewhere.path(), &fine).status.code(), Some(2));
}

#[test]
fn a_name_that_the_code_already_has_is_taken() {
    for (name, service, by) in [
        (
            "events",
            "billing",
            "the crate events, which services/billing/src/consumers/mod.rs imports",
        ),
        ("consumer", "notification", "the crate consumer, which services/notification/src/"),
    ] {
        let wanted = consumer(name, "order.completed", service, Kind::Row);
        let error = scaffold::add(&mut Tree::new(root()), &wanted).unwrap_err().to_string();
        assert!(error.contains(by), "{name}: {error}");
    }
    let mut tree = Tree::new(root());
    let added = |tree: &mut Tree, name: &str| {
        scaffold::add(tree, &consumer(name, "order.completed", "analytics", Kind::Row))
    };
    added(&mut tree, "top10").unwrap();
    let error = added(&mut tree, "top_10").unwrap_err().to_string();
    assert!(error.contains("is taken by the handler Top10Projection of analytics"), "{error}");
}

#[test]
fn all_that_can_not_be_used_is_named_at_once() {
    let error = |arguments: &[&str]| String::from_utf8(run(&root(), arguments).stderr).unwrap();
    let several = error(&["consumer", "NAME=select", "EVENT=order.lost", "SERVICE=order"]);
    let named: Vec<_> = several.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(named, ["NAME=select", "SERVICE=order", "EVENT=order.lost"], "{several}");
    let several = error(&["event", "EVENT=shipped", "SERVICE=analytics"]);
    let named: Vec<_> = several.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(named, ["EVENT=shipped", "SERVICE=analytics"], "{several}");
    let missing = error(&["consumer", "NAME=values_of_all"]);
    assert!(missing.starts_with("EVENT, SERVICE are missing: make new-consumer"), "{missing}");
}

#[test]
fn an_event_type_is_entered_wherever_it_has_to_be() {
    for (event, service, topic) in [
        ("order.shelved", "order", "ORDER_SHELVED"),
        ("order.partly_shelved", "billing", "ORDER_PARTLY_SHELVED"),
    ] {
        let mut tree = Tree::new(root());
        let wanted = NewEvent { event: event.into(), service: service.into() };
        scaffold::add_event(&mut tree, &wanted).unwrap();
        let texts: Vec<_> = tree.changed().collect();
        assert_eq!(texts.len(), 10, "{texts:?}");
        for (path, text) in texts {
            assert!(!text.contains("{{"), "{path}: {text}");
            let is_rust = Path::new(path).extension().is_some_and(|it| it == "rs");
            assert!(!is_rust || is_formatted(text), "{path}\n{text}");
        }
        let app = tree.read(&format!("services/{service}/src/app.rs")).unwrap();
        assert!(app.contains(&format!(".publishes([{topic}, ")), "{app}");
        let rights = tree.read("deploy/secure/init-kafka").unwrap();
        assert!(rights.contains(&format!("\n{service}=({event} ")), "{rights}");
        // The new event can be consumed at once.
        let consumer = consumer("values_of_all", event, "analytics", Kind::Sum);
        scaffold::add(&mut tree, &consumer).unwrap();
    }
}

#[test]
fn what_is_no_new_event_is_named_in_one_sentence_and_nothing_is_written() {
    let folder = copy();
    let before = files(folder.path());
    for (event, service, expected) in [
        ("", "order", "EVENT is missing: make new-event"),
        ("order.shelved", "", "SERVICE is missing: make new-event"),
        ("order.completed", "order", "EVENT=order.completed is taken by schemas/order.completed"),
        ("order.status", "order", "EVENT=order.status is taken by the type OrderStatus"),
        ("order.event", "order", "EVENT=order.event is taken by the type OrderEvent"),
        ("shipped", "order", "EVENT=shipped is no name of an event"),
        ("order.Shipped", "order", "EVENT=order.Shipped is no name of an event"),
        ("order.shelved", "analytics", "SERVICE=analytics publishes no events; there are order"),
        ("order.shelved", "nobody", "SERVICE=nobody is no service; there are order"),
    ] {
        let (event, service) = (format!("EVENT={event}"), format!("SERVICE={service}"));
        let output = run(folder.path(), &["event", &event, &service]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{event} {service}: {error}");
        assert!(error.starts_with(expected), "{event} {service}: {error}");
        assert_eq!(error.trim_end().lines().count(), 1, "{error}");
    }
    assert_eq!(files(folder.path()), before);
    let output = run(folder.path(), &["event", "EVENT=order.shelved", "SERVICE=order"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(folder.path().join("schemas/order.shelved/examples/1.0.json").exists());
    assert_eq!(run(folder.path(), &["colour"]).status.code(), Some(2));
}

/// Returns the code blocks of a page in this language.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let fence = format!("\n```{language}\n");
    let starts = page.split(&fence).skip(1);
    starts.map(|it| it.split("\n```").next().unwrap().to_owned()).collect()
}

#[test]
fn the_pages_show_what_is_written() {
    // With other names of the same length, because a reader of the pages may have used theirs.
    let consumer = added(&consumer("shown_values", "order.completed", "analytics", Kind::Sum));
    let mut event = Tree::new(root());
    let wanted = NewEvent { event: "order.shelved".into(), service: "order".into() };
    scaffold::add_event(&mut event, &wanted).unwrap();
    for (page, tree, count) in [("consumer", consumer, 5), ("event", event, 2)] {
        let name = format!("docs/adding-a{}-{page}.md", if page == "event" { "n" } else { "" });
        let text = fs::read_to_string(root().join(&name)).unwrap();
        let filled = |text: &str| {
            let names = [
                ("shown_", "order_"),
                ("Shown", "Order"),
                ("shelved", "shipped"),
                ("Shelved", "Shipped"),
            ];
            let text =
                names.iter().fold(text.to_owned(), |text, (name, shown)| text.replace(name, shown));
            text.replace("(_event: ", "(event: ").replace("    0\n", "    event.order.total\n")
        };
        let written: Vec<_> = tree.changed().map(|(_, text)| filled(text)).collect();
        let shown = [blocks(&text, "rust"), blocks(&text, "sql")].concat();
        let shown: Vec<_> = shown.iter().filter(|it| !it.contains("outbox::append")).collect();
        assert_eq!(shown.len(), count, "{name}: {shown:?}");
        for block in shown {
            let lines = trimmed(block);
            let is_in = |text: &String| trimmed(text).windows(lines.len()).any(|it| it == lines);
            assert!(written.iter().any(is_in), "{name} shows code that is not generated:\n{block}");
        }
    }
}

/// Returns the lines of code without indentation, and SQL without Rust's quotes.
fn trimmed(code: &str) -> Vec<&str> {
    code.lines().map(|it| it.trim().trim_start_matches('"').trim_end_matches("\",")).collect()
}
