//! Lines of a tree, in columns: time, service, headline, and duration.

use std::io::{self, Write};

use crate::flow::{Flow, Node, Timestamp};
use crate::plain::plain;

use super::collapse::{Shown, collapse, summary};
use super::color::{Colors, Tone};
use super::details::details;
use super::headline::{Layout, headline};
use super::units::{duration, since};
use super::wrap::wrap;

/// Width of the screen, of the times, and of the durations.
const WIDTH: usize = 80;
const TIME: usize = 9;
const TOOK: usize = 8;
/// Maximum width of a service's name.
const SERVICE: usize = 14;

/// A line before it is wrapped.
pub(super) struct Line {
    time: String,
    service: String,
    /// Guides of the first row, and of the following rows.
    guides: (String, String),
    text: String,
    took: String,
    tone: Tone,
    step: Option<String>,
}

/// Returns the lines of a flow.
pub(super) fn of(flow: &Flow, collapses: bool) -> Vec<Line> {
    let mut lines = Lines { start: flow.start(), collapses, done: Vec::new() };
    for shown in collapse(&flow.roots, collapses) {
        lines.add(&shown, None, &Guides::default());
    }
    lines.done
}

/// Returns the line of a single node, without its tree.
pub(super) fn alone(flow: &Flow, node: &Node) -> Line {
    Lines { start: flow.start(), collapses: false, done: Vec::new() }.line(
        node,
        (String::new(), String::new()),
        Layout::Alone,
    )
}

/// The guides before the lines of a node, the lines below it, and those of its children.
#[derive(Clone, Default)]
struct Guides {
    own: String,
    below: String,
}

struct Lines {
    start: Option<Timestamp>,
    collapses: bool,
    done: Vec<Line>,
}

impl Lines {
    fn add(&mut self, shown: &Shown<'_>, cause: Option<&Node>, guides: &Guides) {
        let node = shown.node;
        let children = collapse(&node.children, self.collapses);
        let below = if children.is_empty() { "  " } else { "│ " };
        let below = format!("{}{below}", guides.below);
        let line = self.line(node, (guides.own.clone(), below.clone()), Layout::Tree);
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

    fn line(&self, node: &Node, guides: (String, String), layout: Layout) -> Line {
        let time = node.start.zip(self.start).map(|(at, start)| since(at, start));
        let took = node.start.zip(node.end).map(|(start, end)| duration(end.since(start)));
        Line {
            time: time.unwrap_or_default(),
            service: node.service.as_deref().map(plain).unwrap_or_default(),
            guides,
            text: headline(node, layout),
            took: took.unwrap_or_default(),
            tone: tone(node),
            step: Some(node.short_key()),
        }
    }
}

/// Returns the tone of a node, regardless of its effects.
pub(crate) fn tone(node: &Node) -> Tone {
    match node.finding() {
        Some(finding) if finding.is_failure() => Tone::Failed,
        Some(_) => Tone::Waiting,
        None => Tone::Plain,
    }
}

impl Line {
    fn below(guides: (String, String), text: String, tone: Tone) -> Self {
        let (time, service, took) = Default::default();
        Self { time, service, guides, text, took, tone, step: None }
    }
}

/// A row of the screen, in columns.
pub(crate) struct Row {
    pub(crate) time: String,
    pub(crate) service: String,
    pub(crate) guide: String,
    pub(crate) text: String,
    /// The end of the row, with the duration.
    pub(crate) took: String,
    pub(crate) tone: Tone,
    /// The step that begins in this row.
    pub(crate) step: Option<String>,
}

/// Writes lines in columns whose widths depend on the whole flow, not on these lines.
pub(super) fn write(
    out: &mut impl Write,
    flow: &Flow,
    lines: &[Line],
    colors: Colors,
) -> io::Result<()> {
    for Row { time, service, guide, text, took, tone, .. } in rows(flow, lines) {
        let columns = format!("{}{service}", colors.dim(&time));
        let row = format!("{columns}{}{}{took}", colors.dim(&guide), colors.tone(tone, &text));
        writeln!(out, "{}", row.trim_end())?;
    }
    Ok(())
}

/// Wraps lines into rows.
pub(super) fn rows(flow: &Flow, lines: &[Line]) -> Vec<Row> {
    let names = flow.services.iter().map(|it| plain(&it.name).chars().count());
    let service = names.max().unwrap_or_default().clamp(1, SERVICE);
    let text = WIDTH - TIME - 2 - service - 2 - TOOK - 2;
    lines.iter().flat_map(|line| line.rows(service, text)).collect()
}

impl Line {
    fn rows(&self, service: usize, width: usize) -> Vec<Row> {
        let Self { time, guides, text, took, tone, .. } = self;
        let mut name = self.service.clone();
        if name.chars().count() > service {
            name = name.chars().take(service - 1).chain(['.']).collect();
        }
        // Without a duration there is more room.
        let width = if took.is_empty() { width + 2 + TOOK } else { width };
        let (first, rest) = (guides.0.chars().count(), guides.1.chars().count());
        let room = width.saturating_sub(first.max(rest)).max(20);
        let row = |(at, part): (usize, String)| {
            let (time, name, took, guide) = match at {
                0 => (&**time, &*name, &**took, &guides.0),
                _ => ("", "", "", &guides.1),
            };
            let used = guide.chars().count() + part.chars().count();
            let gap = if took.is_empty() { 0 } else { width.saturating_sub(used) + 2 };
            let took = if took.is_empty() { String::new() } else { format!("{took:>TOOK$}") };
            Row {
                time: format!("{time:>TIME$}"),
                service: format!("  {name:<service$}  "),
                guide: guide.clone(),
                text: part,
                took: format!("{:gap$}{took}", ""),
                tone: *tone,
                step: self.step.clone().filter(|_| at == 0),
            }
        };
        wrap(text, room).into_iter().enumerate().map(row).collect()
    }
}
