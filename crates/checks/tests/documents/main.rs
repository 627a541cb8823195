//! Checks of the documents: no link is dead, and every named file, command, `make` target, setting
//! and test exists. Also checks that comment lines of the sources are not too long.

#![allow(clippy::unwrap_used)]

mod commands;
mod comments;
mod document;
mod indexes;
mod links;
mod makefile;
mod mentions;
mod names;
mod prose;
mod tree;
mod variables;
mod versions;

use std::fmt;

use commands::Commands;
use document::Document;
use tree::{Tree, text_of};

/// A violation, with its place.
struct Finding {
    file: String,
    line: usize,
    what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.what)
    }
}

fn assert_none(findings: &[Finding]) {
    let lines: Vec<_> = findings.iter().map(ToString::to_string).collect();
    assert!(lines.is_empty(), "\n{}\n", lines.join("\n"));
}

#[test]
fn no_link_is_dead() {
    let tree = Tree::read();
    assert_none(&tree.documents().iter().flat_map(|it| links::dead(it, &tree)).collect::<Vec<_>>());
}

#[test]
fn the_table_of_decisions_has_every_page() {
    let tree = Tree::read();
    let documents = tree.documents();
    let pages = documents.iter().filter(|it| it.path.starts_with("docs/decisions/"));
    let table = tree.document("ARCHITECTURE.md").unwrap();
    let is_missing = |page: &str| !table.links.iter().any(|link| link.target == page);
    let missing = pages.filter(|it| is_missing(&it.path));
    let finding = |it: &&Document| it.finding(1, "ARCHITECTURE.md has no link to it".to_owned());
    assert_none(&missing.map(finding).collect::<Vec<_>>());
}

#[test]
fn every_file_that_a_document_names_exists() {
    let tree = Tree::read();
    let documents = tree.documents();
    let current = documents.iter().filter(|document| !document.is_history());
    assert_none(&current.flat_map(|it| names::missing_files(it, &tree)).collect::<Vec<_>>());
}

#[test]
fn every_make_target_that_a_document_names_exists() {
    let tree = Tree::read();
    let targets = makefile::targets();
    let documents = tree.documents();
    let current = documents.iter().filter(|document| !document.is_history());
    assert_none(&current.flat_map(|it| makefile::unknown(it, &targets)).collect::<Vec<_>>());
}

#[test]
fn every_command_that_a_document_names_exists() {
    let tree = Tree::read();
    let commands = Commands::read(&tree);
    let documents = tree.documents();
    let current = documents.iter().filter(|document| !document.is_history());
    assert_none(&current.flat_map(|it| commands.unknown(it, &tree)).collect::<Vec<_>>());
}

#[test]
fn every_setting_that_a_document_names_exists() {
    let tree = Tree::read();
    let known = variables::known(&tree);
    let documents = tree.documents();
    // Decisions name settings of other systems; READMEs of crates and guides have names of
    // examples.
    let of_others = ["crates/", "docs/decisions/", "docs/adding-"];
    let of_the_system = documents.iter().filter(|document| {
        !document.is_history() && !of_others.iter().any(|start| document.path.starts_with(start))
    });
    assert_none(&of_the_system.flat_map(|it| variables::unknown(it, &known)).collect::<Vec<_>>());
}

#[test]
fn every_document_that_the_sources_name_exists() {
    assert_none(&mentions::dead(&Tree::read()));
}

#[test]
fn every_index_that_can_be_built_before_is_on_the_page() {
    let tree = Tree::read();
    let page = tree.document("docs/operations.md").unwrap();
    assert_none(&indexes::differing(page, &tree));
}

#[test]
fn an_index_that_is_missing_or_differs_is_found() {
    let start = "create index concurrently if not exists";
    let text = format!(
        "```sql\n-- A comment.\n{start} outbox_by_lane on outbox (shard, topic, id);\n\
         {start} activity_by_time on activity (id);\n```\n"
    );
    let found = indexes::differing(&Document::parse("page.md", &text), &Tree::read());
    let found: Vec<_> = found.iter().map(ToString::to_string).collect();
    let has = |text: &str| found.iter().any(|it| it.contains(text));
    assert!(has("0009_standing.sql:1: page.md does not list: create index if not exists inbox_by"));
    assert!(has("page.md:4: no migration has: create index if not exists activity_by_time"));
    assert!(!has("outbox_by_lane"), "{found:?}");
}

#[test]
fn every_place_names_the_same_version_of_rust() {
    assert_none(&versions::differing());
}

#[test]
fn no_comment_line_of_a_source_is_longer_than_100_columns() {
    assert_none(&comments::too_long(&Tree::read()));
}

#[test]
fn a_long_comment_line_is_found_unless_it_is_a_url() {
    let long = "x".repeat(120);
    let text = format!(
        "fn short() {{}} // a comment\n    // {long}\n    /// https://example.com/{long}\n\
         //! (<https://example.com/{long}>).\n/// https://example.com/{long} with text\n\
         let text = \"{long}\";\n"
    );
    let found = comments::too_long_in("lib.rs", &text);
    let lines: Vec<_> = found.iter().map(|it| it.line).collect();
    assert_eq!(lines, [2, 5]);
    assert_eq!(found[0].to_string(), "lib.rs:2: the comment line has 127 columns, more than 100");
}

#[test]
fn no_line_of_prose_is_longer_than_120_columns() {
    let tree = Tree::read();
    let found = tree.documents().into_iter().filter_map(|it| Some((it, text_of(&it.path)?)));
    assert_none(&found.flat_map(|(it, text)| prose::too_long(it, &text)).collect::<Vec<_>>());
}

#[test]
fn a_long_line_of_prose_is_found_and_one_of_code_is_not() {
    let long = "ä ".repeat(61);
    let text =
        format!("{long}\n\n```sh\n{long}\n```\n\n| {long} |\n\nhttps://example.com/ {long}\n");
    let found = prose::too_long(&Document::parse("README.md", &text), &text);
    let found: Vec<_> = found.iter().map(ToString::to_string).collect();
    assert_eq!(found, ["README.md:1: the line has 122 columns, more than 120"]);
}

#[test]
fn what_is_wrong_is_found() {
    let tree = Tree::read();
    let text = "# A title\n\n[a](no/such.md) [b](README.md#no-such-heading) [c](#a-title)\n\
                [`no_such_test`](crates/checks/tests/documents/tree.rs)\n\n\
                `crates/none/src/lib.rs`, `make nothing`\n\n```sh\nX=1 make nothing-else\n```\n";
    let document = Document::parse("README.md", text);
    let dead: Vec<_> = links::dead(&document, &tree).iter().map(ToString::to_string).collect();
    assert_eq!(dead.len(), 3, "{dead:?}");
    assert!(dead[0].starts_with("README.md:3: no/such.md"), "{dead:?}");
    assert!(dead[1].contains("no-such-heading"), "{dead:?}");
    assert!(dead[2].contains("no_such_test"), "{dead:?}");
    let missing = names::missing_files(&document, &tree);
    assert_eq!(missing.len(), 1);
    let unknown = makefile::unknown(&document, &makefile::targets());
    assert_eq!(unknown.iter().map(|it| it.line).collect::<Vec<_>>(), [6, 9]);
}

#[test]
fn commands_and_settings_that_do_not_exist_are_found() {
    let tree = Tree::read();
    let text = "`orderflow dlq rehearse`, `orderflow nothing`\n\n`orderflow dlq nothing --json`\n\n\
                `deploy/system nothing`, `deploy/system dlq nothing`\n\n\
                `cargo test -p orderflow-nothing`, `cargo test -p orderflow-checks --test nothing`, \
                `cargo test -p orderflow-checks --test documents`\n\n`NO_SUCH_SETTING=1`, `DATABASE_URL_FILE`\n";
    let document = Document::parse("README.md", text);
    let unknown = Commands::read(&tree).unknown(&document, &tree);
    assert_eq!(unknown.iter().map(|it| it.line).collect::<Vec<_>>(), [1, 3, 5, 5, 7, 7]);
    let settings = variables::unknown(&document, &variables::known(&tree));
    assert_eq!(settings.iter().map(|it| it.line).collect::<Vec<_>>(), [9]);
}
