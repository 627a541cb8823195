use crate::Finding;
use crate::tree::{Tree, has_extension, text_of};

/// Returns the documents and headings (`docs/..md#..`) that sources, rules and help texts name and
/// that do not exist.
pub(crate) fn dead(tree: &Tree) -> Vec<Finding> {
    let sources = tree.files().filter(|path| !has_extension(path, "md"));
    // The tests in this folder name documents that do not exist.
    let sources = sources.filter(|path| !path.starts_with("crates/checks/tests/documents/"));
    let mut findings = Vec::new();
    for path in sources {
        let Some(text) = text_of(path) else { continue };
        for (at, line) in text.lines().enumerate() {
            let dead = mentions(line).filter(|mention| !exists(mention, tree));
            findings.extend(dead.map(|mention| Finding {
                file: path.to_owned(),
                line: at + 1,
                what: format!("{mention} does not exist"),
            }));
        }
    }
    findings
}

fn mentions(line: &str) -> impl Iterator<Item = &str> {
    let starts = line.match_indices("docs/").map(|(at, _)| &line[at..]);
    let words = starts.map(|rest| {
        let is_part = |it: char| it.is_ascii_alphanumeric() || "_-./#".contains(it);
        rest.split(|it| !is_part(it)).next().unwrap_or_default().trim_end_matches('.')
    });
    words.filter(|word| word.contains(".md"))
}

fn exists(mention: &str, tree: &Tree) -> bool {
    let (path, anchor) = mention.split_once('#').unwrap_or((mention, ""));
    let Some(document) = tree.document(path) else { return false };
    anchor.is_empty() || document.anchors.iter().any(|it| it == anchor)
}
