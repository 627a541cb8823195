//! No document has a dead link, or names a file, a `make` target or a test that does not exist.

#![allow(clippy::unwrap_used)]

mod document;
mod links;
mod makefile;
mod mentions;
mod names;
mod tree;

use std::fmt;

use document::Document;
use tree::Tree;

/// What is wrong, and where.
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
fn every_document_that_the_sources_name_exists() {
    assert_none(&mentions::dead(&Tree::read()));
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
