//! Builds the tree of causes and effects.

use std::collections::{BTreeMap, BTreeSet};

use super::entry::{Content, Entry};
use super::sorting::Sorting;
use super::{Flow, Node};

/// Below this depth effects are shown beside their cause, because a flow may be deeper than a
/// screen is wide.
const DEPTH: usize = 10;

/// Returns the entries without a cause, each with its effects.
pub(crate) fn grow(mut entries: Vec<Entry>) -> Vec<Node> {
    for at in 0..entries.len() {
        if let Content::Replay(replay) = &entries[at].content
            && !replay.is_rehearsal()
            && matches!(replay.outcome(), Some("processed" | "duplicate" | "superseded"))
        {
            mark_replayed(&mut entries, at);
        }
    }
    let mut children: BTreeMap<Option<usize>, Vec<usize>> = BTreeMap::new();
    for (at, entry) in entries.iter().enumerate() {
        children.entry(entry.parent).or_default().push(at);
    }
    let mut entries: Vec<_> = entries.into_iter().map(Some).collect();
    branch(&mut entries, &children, None, 0)
}

/// Marks a delivery whose dead letter a replay has settled.
fn mark_replayed(entries: &mut [Entry], replay: usize) {
    let mut at = entries[replay].parent;
    while let Some(here) = at {
        if let Content::Delivery(delivery) = &mut entries[here].content {
            delivery.was_replayed = true;
            return;
        }
        at = entries[here].parent;
    }
}

fn branch(
    entries: &mut [Option<Entry>],
    children: &BTreeMap<Option<usize>, Vec<usize>>,
    of: Option<usize>,
    depth: usize,
) -> Vec<Node> {
    let mut nodes = Vec::new();
    let mut left: Vec<_> = children.get(&of).into_iter().flatten().rev().copied().collect();
    while let Some(at) = left.pop() {
        let Some(Entry { service, content, .. }) = entries[at].take() else { continue };
        let follows = if depth < DEPTH {
            branch(entries, children, Some(at), depth + 1)
        } else {
            left.extend(children.get(&Some(at)).into_iter().flatten().rev());
            Vec::new()
        };
        let (start, end) = (content.start(), content.end());
        nodes.push(Node { service, start, end, content, children: follows });
    }
    // The sort is stable, so entries with the same time keep their order. An event whose
    // publication is not recorded takes the time of its effects.
    nodes.sort_by_key(|node| {
        let effects = || node.children.iter().filter_map(|it| it.start).min();
        let start = node.start.or_else(effects);
        (start.is_none(), start)
    });
    nodes
}

/// Returns the subjects of steps and rows, except those that are correlation ids.
pub(crate) fn subjects(sorting: &Sorting, correlation_ids: &[String]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let of_entry = |entry: &Entry| {
        let steps = entry.content.steps().into_iter().filter_map(|it| it.step.subject.clone());
        let rows = entry.content.rows().into_iter().filter_map(|it| it.open.subject.clone());
        steps.chain(rows).collect::<Vec<_>>()
    };
    let subjects = sorting.entries.iter().flat_map(of_entry);
    subjects.filter(|it| !correlation_ids.contains(it) && seen.insert(it.clone())).collect()
}

impl Flow {
    /// Returns `true` if nothing is recorded under the id.
    pub(crate) fn is_empty(&self) -> bool {
        self.roots.is_empty()
    }
}
