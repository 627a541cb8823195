//! Collapses repeated steps, so that a flow of 500 steps fits a screen.

use std::collections::BTreeMap;

use crate::flow::Node;

use super::details::errors;
use super::headline::{Layout, headline, shape};
use super::units::duration;

/// Up to this number, similar steps are shown one by one.
const SHOWN: usize = 3;

/// A node, and the number of similar nodes after it that are not shown.
pub(crate) struct Shown<'a> {
    pub(crate) node: &'a Node,
    pub(crate) like: Vec<&'a Node>,
}

/// Returns the nodes to show. Of more than three similar siblings, shows the first one.
pub(crate) fn collapse(siblings: &[Node], collapses: bool) -> Vec<Shown<'_>> {
    let mut shapes: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    if collapses && siblings.len() > SHOWN {
        for (at, node) in siblings.iter().enumerate() {
            shapes.entry(shape_of(node)).or_default().push(at);
        }
    }
    let mut like: BTreeMap<usize, Vec<&Node>> = BTreeMap::new();
    let mut hidden = vec![false; siblings.len()];
    for alike in shapes.into_values().filter(|it| it.len() > SHOWN) {
        for at in &alike[1..] {
            hidden[*at] = true;
        }
        like.insert(alike[0], alike[1..].iter().map(|at| &siblings[*at]).collect());
    }
    let shown = siblings.iter().enumerate().filter(|(at, _)| !hidden[*at]);
    shown.map(|(at, node)| Shown { node, like: like.remove(&at).unwrap_or_default() }).collect()
}

/// Returns the line for hidden nodes: their number, and how long they took.
pub(crate) fn summary(like: &[&Node]) -> String {
    let took = like.iter().filter_map(|it| Some(it.end?.since(it.start?)));
    let range = took.clone().min().zip(took.max()).map(|(least, most)| {
        let (least, most) = (duration(least), duration(most));
        if least == most { format!(", {least}") } else { format!(", {least} to {most}") }
    });
    format!("... and {} like it{}", like.len(), range.unwrap_or_default())
}

/// Returns the shape of a node and of all its effects.
fn shape_of(node: &Node) -> String {
    let mut of_children: Vec<_> = node.children.iter().map(shape_of).collect();
    of_children.sort_unstable();
    of_children.dedup();
    let errors: Vec<_> = errors(node).iter().map(|it| shape(it)).collect();
    format!(
        "{:?} {} {errors:?} [{}]",
        node.service,
        shape(&headline(node, Layout::Tree)),
        of_children.join("; ")
    )
}
