use std::collections::BTreeSet;

use crate::Finding;
use crate::document::Document;
use crate::tree::text_of;

/// Returns the targets of the Makefile and of the file that it includes.
pub(crate) fn targets() -> BTreeSet<String> {
    let files = ["Makefile", "deploy/compose.mk"].map(|path| text_of(path).unwrap());
    let rules = files.iter().flat_map(|text| text.lines()).filter_map(|line| line.split_once(':'));
    let names = rules.flat_map(|(names, _)| names.split(' ')).filter(|name| is_target(name));
    names.map(str::to_owned).collect()
}

fn is_target(name: &str) -> bool {
    name.starts_with(|it: char| it.is_ascii_lowercase())
        && name.chars().all(|it| it.is_ascii_lowercase() || it == '-')
}

/// Returns the targets that a document names and that `make` does not have.
pub(crate) fn unknown(document: &Document, targets: &BTreeSet<String>) -> Vec<Finding> {
    let texts = document.spans.iter().chain(&document.code);
    let named = texts.flat_map(|(line, text)| named_in(text).map(move |name| (*line, name)));
    let unknown = named.filter(|(_, name)| !targets.contains(*name));
    unknown
        .map(|(line, name)| document.finding(line, format!("make has no target {name}")))
        .collect()
}

/// Returns the targets in the commands of a line of shell, without its comment, where `make` may be
/// a verb.
fn named_in(text: &str) -> impl Iterator<Item = &str> {
    let command = if text.starts_with('#') { "" } else { text.split(" #").next().unwrap_or("") };
    let words: Vec<_> = command.split_whitespace().collect();
    let starts = move |at: &usize| {
        let before = at.checked_sub(1).map(|before| words[before]);
        let is_start =
            before.is_none_or(|it| it.ends_with([';', '|', '&', '(']) || it.contains('='));
        (is_start && words[*at] == "make").then(|| words.get(at + 1).copied()).flatten()
    };
    let count = command.split_whitespace().count();
    (0..count)
        .filter_map(move |at| starts(&at))
        .map(|it| it.trim_end_matches(';'))
        .filter(|it| is_target(it))
}
