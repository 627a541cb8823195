//! Labels beside the steps of the picture. They are short, because the lane contains the rest.

use std::collections::{BTreeMap, BTreeSet};

use super::items::Lane;
use super::text::short;
use crate::flow::{Content, Event, Flow, Node, Timestamp};
use crate::plain::plain;
use crate::show_flow::{Layout, duration, headline};

/// Data of the whole flow that labels need.
pub(super) struct Labels {
    start: Option<Timestamp>,
    /// Groups that received events of several types.
    mixed: BTreeSet<String>,
}

impl Labels {
    pub(super) fn new(flow: &Flow) -> Self {
        let mut types: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for node in flow.nodes() {
            if let Content::Delivery(it) = &node.content {
                types.entry(it.group.clone()).or_default().extend(it.event_type.clone());
            }
        }
        let mixed = types.into_iter().filter(|(_, it)| it.len() > 1).map(|(group, _)| group);
        Self { start: flow.start(), mixed: mixed.collect() }
    }

    /// Returns the label of a step, and its tooltip with all data.
    pub(super) fn of(&self, node: &Node, lane: &Lane) -> (String, String) {
        let took = node.start.zip(node.end).map(|(start, end)| duration(end.since(start)));
        let text = self.text(node, lane);
        let timed = match (&node.content, &took) {
            (
                Content::Step(_) | Content::Delivery(_) | Content::Job(_) | Content::Replay(_),
                Some(took),
            ) => {
                format!("{text} · {took}")
            }
            _ => text,
        };
        let service = node.service.as_deref().map(plain);
        let whole = headline(node, Layout::Alone);
        let since = node.start.zip(self.start).map(|(at, start)| duration(at.since(start)));
        let (at, took) = (since.map(|it| format!("at {it}")), took.map(|it| format!("took {it}")));
        let tip: Vec<_> = [service, Some(whole), at, took].into_iter().flatten().collect();
        (short(&timed), tip.join(", "))
    }

    fn text(&self, node: &Node, lane: &Lane) -> String {
        let whole = headline(node, Layout::Alone);
        match &node.content {
            Content::Event(event) if *lane == Lane::Outbox => of_outbox(event),
            Content::Event(event) => of_record(event),
            Content::Delivery(it) => {
                // The lane is the group, and most groups handle one type.
                let text = headline(node, Layout::Tree);
                let text = text.strip_prefix(&format!("{}: ", plain(&it.group))).unwrap_or(&text);
                let text = text.strip_prefix("expected, ").unwrap_or(text);
                match &it.event_type {
                    Some(event_type) if self.mixed.contains(&it.group) => {
                        format!("{}: {text}", plain(event_type))
                    }
                    _ => text.to_owned(),
                }
            }
            Content::Job(_) => whole.strip_prefix("job ").unwrap_or(&whole).to_owned(),
            Content::Letter(_) => whole.replace(": dead letter, ", ": "),
            Content::Step(_) | Content::Replay(_) | Content::Open(_) => whole,
        }
    }
}

fn of_outbox(event: &Event) -> String {
    let wait =
        event.waits.first().and_then(|it| it.period).map(|it| duration(it.end.since(it.start)));
    match &event.outbox {
        Some(_) => format!("{} is not published", plain(event.kind.as_deref().unwrap_or("event"))),
        None => wait.unwrap_or_default(),
    }
}

fn of_record(event: &Event) -> String {
    let name = event.kind.as_deref().unwrap_or("event");
    let Some(last) = event.published.last() else {
        return format!("{}, its publication is not recorded", plain(name));
    };
    let at = last.step.partition.zip(last.step.offset);
    let at = at.map(|(partition, offset)| format!(" {partition}@{offset}")).unwrap_or_default();
    let times = match event.published.len() {
        1 => String::new(),
        times => format!(", {times} times"),
    };
    format!("{}{at}{times}", plain(name))
}
