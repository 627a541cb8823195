use super::Difference;
use super::token::tokens;

/// Characters that draw the branches of a flow.
const BRANCHES: [char; 3] = ['├', '└', '│'];

/// Returns the number of the line where the drawing of a flow starts: the one above its first
/// branch.
pub(super) fn start(text: &str) -> Option<usize> {
    let branch = text.lines().position(|line| line.contains(BRANCHES))?;
    Some(branch.saturating_sub(1))
}

/// Splits a text before a line.
pub(super) fn split(text: &str, line: usize) -> (&str, &str) {
    let at = text.split_inclusive('\n').take(line).map(str::len).sum();
    text.split_at(at)
}

/// Compares two drawings by parents and children. Siblings may come in another order, which depends
/// on timing. `line` is the drawing's first line on the page.
pub(super) fn compare(page: &str, line: usize, output: &str) -> Result<(), Difference> {
    let (wanted, mut seen) = (items(page), items(output));
    let mut missing = Vec::new();
    for item in &wanted {
        match seen.iter().position(|other| other.path == item.path) {
            Some(at) => drop(seen.remove(at)),
            None => missing.push(item),
        }
    }
    let others: Vec<_> = seen.iter().map(|it| it.text.as_str()).collect();
    let others = if others.is_empty() { "no other line".into() } else { others.join("\n") };
    match missing.first() {
        Some(item) => {
            Err(Difference { line: line + item.line, expected: item.text.clone(), seen: others })
        }
        None if seen.is_empty() => Ok(()),
        None => Err(Difference {
            line: line + page.lines().count() - 1,
            expected: "no further line".into(),
            seen: others,
        }),
    }
}

/// An item of a drawing, which takes one or more lines.
struct Item {
    line: usize,
    text: String,
    /// Text of the item after those of its ancestors, root first, all without times.
    path: Vec<String>,
}

fn items(drawing: &str) -> Vec<Item> {
    // Column and text of each item that the next one may be a child of.
    let mut above: Vec<(usize, String)> = Vec::new();
    let mut items = Vec::new();
    for (line, text) in unwrapped(drawing) {
        let column = text.chars().enumerate().filter(|(_, it)| BRANCHES.contains(it)).last();
        let column = column.map_or(0, |(column, _)| column);
        above.retain(|(other, _)| *other < column);
        above.push((column, stable_text(&text)));
        let path = above.iter().map(|(_, text)| text.clone()).collect();
        items.push(Item { line, text: text.trim().to_owned(), path });
    }
    items
}

/// Returns each item's first line, with the lines that continue it, which have no branch.
fn unwrapped(drawing: &str) -> Vec<(usize, String)> {
    let mut items: Vec<(usize, String)> = Vec::new();
    for (line, text) in drawing.lines().enumerate().filter(|(_, text)| !text.trim().is_empty()) {
        let continues = text.contains('│') && !text.contains(['├', '└']);
        match items.last_mut() {
            Some((_, item)) if continues => {
                *item += " ";
                *item += text.replace('│', " ").trim();
            }
            _ => items.push((line, text.to_owned())),
        }
    }
    items
}

/// Returns the text of an item without times and places. `superseded` and what explains it count as
/// `processed`: whether an older event is skipped depends on which topic was faster.
fn stable_text(item: &str) -> String {
    let tokens = tokens(item);
    let lasting = tokens.iter().filter(|it| !matches!(it.kind, Some("duration" | "place")));
    let words = lasting.map(|it| it.kind.unwrap_or(it.text)).filter(|it| !it.contains(BRANCHES));
    let words: Vec<_> = words.collect();
    match words.iter().position(|it| it.starts_with("superseded")) {
        Some(at) => [&words[..at], &["processed"][..]].concat().join(" "),
        None => words.join(" "),
    }
}
