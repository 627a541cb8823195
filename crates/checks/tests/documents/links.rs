use std::path::{Component, Path};

use crate::Finding;
use crate::document::{Document, Link};
use crate::tree::{Tree, has_extension, text_of};

/// Returns the links of a document that lead to no file, to no heading, or to a source without the
/// name in the link.
pub(crate) fn dead(document: &Document, tree: &Tree) -> Vec<Finding> {
    let links = document.links.iter().filter(|link| !is_elsewhere(&link.target));
    let why = links.filter_map(|link| Some((link.line, dead_link_reason(document, link, tree)?)));
    why.map(|(line, what)| document.finding(line, what)).collect()
}

/// Returns `true` for other sites, which a test must not depend on, and for Rust paths, which
/// rustdoc checks.
fn is_elsewhere(target: &str) -> bool {
    ["http://", "https://", "mailto:"].iter().any(|scheme| target.starts_with(scheme))
        || target.contains("::")
}

fn dead_link_reason(document: &Document, link: &Link, tree: &Tree) -> Option<String> {
    let (path, anchor) = link.target.split_once('#').unwrap_or((&link.target, ""));
    let path = if path.is_empty() { document.path.clone() } else { resolve(document, path)? };
    if !tree.has(&path) {
        return Some(format!("{} leads to no file", link.target));
    }
    if !anchor.is_empty() {
        // The document need not be part of the tree.
        let of_itself = (path == document.path).then_some(document);
        let anchors = of_itself.or_else(|| tree.document(&path)).map(|it| &it.anchors);
        if !anchors.is_some_and(|anchors| anchors.iter().any(|it| it == anchor)) {
            return Some(format!("{} leads to no heading", link.target));
        }
    }
    let name = link.code.as_deref().filter(|_| has_extension(&path, "rs"))?;
    let text = text_of(&path).unwrap_or_default();
    (!names(&text, name)).then(|| format!("{path} has no {name}"))
}

/// Returns a link's path from the root of the repository, or `..` if it leads outside.
pub(crate) fn resolve(document: &Document, path: &str) -> Option<String> {
    let joined = match path.strip_prefix('/') {
        Some(from_root) => from_root.to_owned(),
        None => format!("{}/{path}", document.folder()),
    };
    let mut parts = Vec::new();
    for component in Path::new(&joined).components() {
        match component {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::ParentDir if parts.pop().is_none() => return Some("..".into()),
            _ => {}
        }
    }
    Some(parts.join("/"))
}

/// Returns `true` if a source has a function of that name (a test) or a string (a fault or an
/// invariant of the suite). A text that can't be such a name, like `src/lib.rs`, always matches.
fn names(source: &str, name: &str) -> bool {
    let is_name = name.chars().all(|it| it.is_alphanumeric() || ['_', '-'].contains(&it));
    !is_name || source.contains(&format!("fn {name}(")) || source.contains(&format!("\"{name}\""))
}
