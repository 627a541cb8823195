//! Makes a copy of analytics, with consumers as `make new-consumer` writes them.

use std::path::{Path, PathBuf};
use std::{env, fs};

use scaffold::{Consumer, Kind, NewEvent, Tree};

/// What the service is copied from.
const SERVICE: &str = "services/analytics";

/// Name, kind and event of each consumer, and what its `amount` is to return; `None` leaves it as it is written.
const CONSUMERS: [(&str, Kind, &str, Option<&str>); 4] = [
    ("row_as_written", Kind::Row, "order.created", None),
    ("row_filled_in", Kind::Row, "invoice.issued", Some("event.total")),
    ("sum_as_written", Kind::Sum, "order.cancelled", None),
    ("sum_filled_in", Kind::Sum, "order.completed", Some("event.order.total")),
];

fn main() {
    let package = folder("CARGO_MANIFEST_DIR");
    let root = package.join("../..").canonicalize().expect("the repository");
    println!("cargo::rerun-if-changed={}", root.join(SERVICE).display());
    println!("cargo::rerun-if-changed={}", root.join("schemas").display());

    println!("cargo::rerun-if-changed={}", root.join("crates/events").display());
    add_event(&root, &folder("OUT_DIR").join("shop"));

    let mut tree = Tree::new(&root);
    for (name, kind, event, amount) in CONSUMERS {
        let (name, event) = (name.to_owned(), event.to_owned());
        let wanted = Consumer { name, event, service: "analytics".into(), kind };
        scaffold::add(&mut tree, &wanted).unwrap_or_else(|error| panic!("{wanted:?}: {error}"));
        match amount {
            Some(amount) => fill_in(&mut tree, &wanted.handler(), amount),
            None => expect_failure(&mut tree, &wanted.test()),
        }
    }

    let copy = folder("OUT_DIR").join("analytics");
    let _ = fs::remove_dir_all(&copy);
    for part in ["src", "migrations", "tests"] {
        copy_folder(&root.join(SERVICE).join(part), &copy.join(part));
    }
    for (path, text) in tree.changed() {
        if let Some(path) = path.strip_prefix("services/analytics/") {
            fs::write(copy.join(path), text).expect("a file is written");
        }
    }
    adapt(&root, &package, &copy);
}

/// Makes a copy of the contract, with an event type more.
fn add_event(root: &Path, copy: &Path) {
    let mut tree = Tree::new(root);
    let wanted = NewEvent { event: "order.shelved".into(), service: "order".into() };
    scaffold::add_event(&mut tree, &wanted).unwrap_or_else(|error| panic!("{error}"));
    let _ = fs::remove_dir_all(copy);
    for part in ["schemas", "crates/events/src", "crates/events/tests"] {
        copy_folder(&root.join(part), &copy.join(part));
    }
    let of_contract =
        |path: &str| path.starts_with("schemas/") || path.starts_with("crates/events/");
    for (path, text) in tree.changed().filter(|(path, _)| of_contract(path)) {
        let path = copy.join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a file is written");
    }
    let is_inner = |line: &&str| line.starts_with("//!") || line.starts_with("#![");
    keep(&copy.join("crates/events/src/lib.rs"), |line| !is_inner(line));
    let tests = copy.join("crates/events/tests/schemas.rs");
    keep(&tests, |line| !is_inner(line));
    replace(&tests, "use events::{", "use crate::{");
    let folder = copy.join("crates/events");
    let folder = folder.to_str().expect("UTF-8").escape_default();
    replace(&tests, "env!(\"CARGO_MANIFEST_DIR\")", &format!("\"{folder}\""));
}

fn folder(variable: &str) -> PathBuf {
    env::var_os(variable).expect("Cargo sets it").into()
}

/// Does what is left to do in a new handler.
fn fill_in(tree: &mut Tree, handler: &str, amount: &str) {
    let text = tree.read(handler).expect("a handler");
    let filled =
        text.replace("(_event: ", "(event: ").replace("    0\n", &format!("    {amount}\n"));
    assert_ne!(text, filled, "{handler} has no amount to fill in");
    tree.set(handler, filled);
}

/// Lets a test succeed if it fails as it is to fail.
fn expect_failure(tree: &mut Tree, path: &str) {
    let test = tree.read(path).expect("a test");
    let expected =
        "#[tokio::test]\n#[should_panic(expected = \"see `amount` in src/consumers/\")]\n";
    tree.set(path, test.replace("#[tokio::test]\n", expected));
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder").map(|it| it.expect("an entry")) {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy_folder(&from, &to);
        } else {
            fs::copy(&from, &to).expect("a copy");
        }
    }
}

/// Adapts what depends on the place of the files, or on their being the root of a crate.
fn adapt(root: &Path, package: &Path, copy: &Path) {
    // `sqlx::migrate!` takes only paths relative to the package.
    let up = "../".repeat(package.components().count() - 1);
    let migrations =
        format!("{up}{}", copy.join("migrations").strip_prefix("/").expect("absolute").display());
    replace(&copy.join("src/app.rs"), "./migrations", &migrations);
    // Four consumers at once take more connections than there are by default.
    let house = copy.join("tests/it/house.rs");
    replace(&house, "self.chassis()", "self.chassis().connections(64)");
    let schemas = root.join("schemas").display().to_string();
    replace(&house, "../../../../schemas", &schemas);
    let is_inner = |line: &&str| line.starts_with("//!") || line.starts_with("#![");
    let of_house_and_consumers = |line: &&str| {
        let module = line.strip_prefix("mod ").and_then(|it| it.strip_suffix(';'));
        module.is_none_or(|it| it == "house" || CONSUMERS.iter().any(|(name, ..)| *name == it))
    };
    keep(&copy.join("src/lib.rs"), |line| !is_inner(line));
    keep(&copy.join("tests/it/main.rs"), |line| !is_inner(line) && of_house_and_consumers(line));
}

fn replace(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).expect("a file");
    assert!(text.contains(from), "{} does not contain {from}", path.display());
    fs::write(path, text.replace(from, to)).expect("a file is written");
}

fn keep(path: &Path, is_kept: impl Fn(&&str) -> bool) {
    let text = fs::read_to_string(path).expect("a file");
    let lines: Vec<_> = text.lines().filter(is_kept).collect();
    fs::write(path, lines.join("\n") + "\n").expect("a file is written");
}
