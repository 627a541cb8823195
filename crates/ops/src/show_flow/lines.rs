//! The lines of a tree, in columns: time, service, what, and how long it took.

use std::io::{self, Write};

use crate::flow::{At, Flow, Node};
use crate::plain::plain;

use super::collapse::{Shown, collapse, summary};
use super::color::{Colors, Tone};
use super::details::details;
use super::headline::{Place, headline};
use super::units::{duration, since};
use super::wrap::wrap;

/// The width of everything, of the times, and of the durations.
const WIDTH: usize = 80;
const TIME: usize = 9;
const TOOK: usize = 8;
/// The most that a service's name takes.
const SERVICE: usize = 14;

/// A line, before it is broken to the width.
pub(super) struct Line {
    time: String,
    service: String,
    /// Of the first row, and of those after it.
    guides: (String, String),
    text: String,
    took: String,
    tone: Tone,
}

/// Returns the lines of a flow.
pub(super) fn of(flow: &Flow, collapses: bool) -> Vec<Line> {
    let mut lines = Lines { start: flow.start(), collapses, done: Vec::new() };
    for shown in collapse(&flow.roots, collapses) {
        lines.add(&shown, None, &Guides::default());
    }
    lines.done
}

/// Returns the line of one node that stands by itself.
pub(super) fn alone(flow: &Flow, node: &Node) -> Line {
    Lines { start: flow.start(), collapses: false, done: Vec::new() }.line(
        node,
        (String::new(), String::new()),
        Place::Alone,
    )
}

/// What precedes the lines of a node: its own, those below it, and those of its children.
#[derive(Clone, Default)]
struct Guides {
    own: String,
    below: String,
}

struct Lines {
    start: Option<At>,
    collapses: bool,
    done: Vec<Line>,
}

impl Lines {
    fn add(&mut self, shown: &Shown<'_>, cause: Option<&Node>, guides: &Guides) {
        let node = shown.node;
        let children = collapse(&node.children, self.collapses);
        let below = if children.is_empty() { "  " } else { "│ " };
        let below = format!("{}{below}", guides.below);
        let line = self.line(node, (guides.own.clone(), below.clone()), Place::Tree);
        self.done.push(line);
        for text in details(node, cause, !self.collapses) {
            let guides = (below.clone(), format!("{below}  "));
            self.done.push(Line::below(guides, text, Tone::Plain));
        }
        let last = children.len().saturating_sub(1);
        for (at, child) in children.iter().enumerate() {
            let (own, rest) = if at == last { ("└ ", "  ") } else { ("├ ", "│ ") };
            let guides = Guides {
                own: format!("{}{own}", guides.below),
                below: format!("{}{rest}", guides.below),
            };
            self.add(child, Some(node), &guides);
        }
        if !shown.like.is_empty() {
            let own = guides.below.clone();
            self.done.push(Line::below((own.clone(), own), summary(&shown.like), tone(node)));
        }
    }

    fn line(&self, node: &Node, guides: (String, String), place: Place) -> Line {
        let time = node.start.zip(self.start).map(|(at, start)| since(at, start));
        let took = node.start.zip(node.end).map(|(start, end)| duration(end.since(start)));
        Line {
            time: time.unwrap_or_default(),
            service: node.service.as_deref().map(plain).unwrap_or_default(),
            guides,
            text: headline(node, place),
            took: took.unwrap_or_default(),
            tone: tone(node),
        }
    }
}

/// Returns the tone of a node by itself, whatever followed from it.
fn tone(node: &Node) -> Tone {
    match node.finding() {
        Some(finding) if finding.is_failure() => Tone::Failed,
        Some(_) => Tone::Waiting,
        None => Tone::Plain,
    }
}

impl Line {
    fn below(guides: (String, String), text: String, tone: Tone) -> Self {
        let (time, service, took) = Default::default();
        Self { time, service, guides, text, took, tone }
    }
}

/// Writes lines in columns, which are those of the flow whichever lines there are.
pub(super) fn write(
    out: &mut impl Write,
    flow: &Flow,
    lines: &[Line],
    colors: Colors,
) -> io::Result<()> {
    let names = flow.services.iter().map(|it| plain(&it.name).chars().count());
    let service = names.max().unwrap_or_default().clamp(1, SERVICE);
    let text = WIDTH - TIME - 2 - service - 2 - TOOK - 2;
    for line in lines {
        write_line(out, line, service, text, colors)?;
    }
    Ok(())
}

fn write_line(
    out: &mut impl Write,
    line: &Line,
    service: usize,
    width: usize,
    colors: Colors,
) -> io::Result<()> {
    let Line { time, guides, text, took, tone, .. } = line;
    let mut name = line.service.clone();
    if name.chars().count() > service {
        name = name.chars().take(service - 1).chain(['.']).collect();
    }
    // Where no duration stands, there is more room.
    let width = if took.is_empty() { width + 2 + TOOK } else { width };
    let (first, rest) = (guides.0.chars().count(), guides.1.chars().count());
    let room = width.saturating_sub(first.max(rest)).max(20);
    for (at, part) in wrap(text, room).iter().enumerate() {
        let (time, name, took, guide) = match at {
            0 => (&**time, &*name, &**took, &guides.0),
            _ => ("", "", "", &guides.1),
        };
        let used = guide.chars().count() + part.chars().count();
        let gap = if took.is_empty() { 0 } else { width.saturating_sub(used) + 2 };
        let took = if took.is_empty() { String::new() } else { format!("{took:>TOOK$}") };
        let columns = format!("{}  {name:<service$}  ", colors.dim(&format!("{time:>TIME$}")));
        let (guide, part) = (colors.dim(guide), colors.tone(*tone, part));
        let row = format!("{columns}{guide}{part}{:gap$}{took}", "");
        writeln!(out, "{}", row.trim_end())?;
    }
    Ok(())
}
