use std::collections::BTreeSet;

use crate::Finding;
use crate::document::Document;
use crate::tree::{Tree, has_extension, text_of};

/// Returns the names in the sources that look like settings: capitals with an underscore.
pub(crate) fn known(tree: &Tree) -> BTreeSet<String> {
    let sources = tree.files().filter(|path| !has_extension(path, "md"));
    // The tests in this folder name one that does not exist.
    let sources = sources.filter(|path| !path.starts_with("crates/checks/tests/documents/"));
    let texts = sources.filter_map(text_of);
    texts.flat_map(|text| names(&text).map(str::to_owned).collect::<Vec<_>>()).collect()
}

fn names(text: &str) -> impl Iterator<Item = &str> {
    let is_part = |it: char| it.is_ascii_alphanumeric() || it == '_';
    text.split(move |it| !is_part(it)).filter(|word| is_variable(word))
}

fn is_variable(word: &str) -> bool {
    word.contains('_')
        && !word.ends_with('_')
        && word.starts_with(|it: char| it.is_ascii_uppercase())
        && word.chars().all(|it| it.is_ascii_uppercase() || it.is_ascii_digit() || it == '_')
}

/// Returns the settings that a document names and no source has. `NAME_FILE` counts as `NAME`,
/// since a secret can be read from a file.
pub(crate) fn unknown(document: &Document, known: &BTreeSet<String>) -> Vec<Finding> {
    let named = document.spans.iter().chain(&document.code);
    let named = named.flat_map(|(line, text)| names(text).map(move |name| (*line, name)));
    let is_known =
        |name: &str| known.contains(name) || known.contains(name.trim_end_matches("_FILE"));
    let unknown = named.filter(|(_, name)| !is_known(name));
    unknown.map(|(line, name)| document.finding(line, format!("no source has {name}"))).collect()
}
