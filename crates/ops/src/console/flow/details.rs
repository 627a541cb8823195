//! Details of a step.

use serde_json::Value;

use super::address::of_id;
use crate::client::Step;
use crate::console::Console;
use crate::console::address::escaped;
use crate::flow::{Content, Flow, Node, OpenRow, Recorded, Timestamp};
use crate::plain::plain;
use crate::show_flow::{Layout, Tone, duration, headline, time, tone};

/// The open step.
pub(super) struct Details {
    pub(super) title: String,
    pub(super) tone: &'static str,
    pub(super) facts: Vec<Fact>,
    pub(super) attempts: Vec<Attempt>,
    /// The errors, one per cause.
    pub(super) errors: Vec<String>,
    /// The steps and rows as sent by the service.
    pub(super) json: Vec<String>,
}

/// A fact about the step.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fact {
    pub(super) name: &'static str,
    pub(super) text: String,
    pub(super) link: Option<String>,
}

/// A failed attempt.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Attempt {
    pub(super) number: String,
    /// Time since the first attempt.
    pub(super) after: String,
    pub(super) error: String,
}

impl Details {
    /// Returns the step with that key. Returns `None` if the flow has none.
    pub(super) fn of(flow: &Flow, key: &str, console: &Console) -> Option<Self> {
        let node = flow.nodes().into_iter().find(|it| it.short_key() == key)?;
        let (steps, rows) = (node.content.steps(), node.content.rows());
        let mut facts = Facts { all: Vec::new(), node };
        facts.times(flow);
        facts.ids(console);
        for row in &rows {
            facts.row(row);
        }
        let json = steps.iter().map(|it| &it.step.json).chain(rows.iter().map(|it| &it.open.json));
        Some(Self {
            title: headline(node, Layout::Alone),
            tone: class(tone(node)),
            facts: facts.all,
            attempts: attempts(node),
            errors: errors(&steps, &rows),
            json: json.map(pretty).collect(),
        })
    }
}

/// Returns the class of a tone.
pub(super) fn class(tone: Tone) -> &'static str {
    match tone {
        Tone::Plain => "",
        Tone::Waiting => "warn",
        Tone::Failed => "bad",
    }
}

/// Formats JSON with one line per member. Text is escaped if it would reorder the line.
fn pretty(json: &Value) -> String {
    let text = serde_json::to_string_pretty(json).unwrap_or_default();
    text.split('\n').map(plain).collect::<Vec<_>>().join("\n")
}

struct Facts<'a> {
    all: Vec<Fact>,
    node: &'a Node,
}

impl Facts<'_> {
    fn add(&mut self, name: &'static str, text: Option<impl AsRef<str>>, link: Option<String>) {
        let Some(text) = text else { return };
        let fact = Fact { name, text: plain(text.as_ref()), link };
        if !self.all.contains(&fact) {
            self.all.push(fact);
        }
    }

    fn times(&mut self, flow: &Flow) {
        let node = self.node;
        self.add("service", node.service.as_ref(), None);
        let since = node.start.zip(flow.start()).map(|(at, start)| duration(at.since(start)));
        let started = node.start.map(time);
        let started =
            started.map(|it| since.map_or_else(|| it.clone(), |since| format!("{it} (+{since})")));
        self.add("started", started, None);
        let took = node.start.zip(node.end).map(|(start, end)| duration(end.since(start)));
        self.add("took", took, None);
        if let Content::Event(event) = &node.content {
            let waits = event.waits.iter().filter_map(|it| it.period);
            for wait in waits {
                self.add("in the outbox", Some(duration(wait.end.since(wait.start))), None);
            }
        }
        if let Content::Delivery(delivery) = &node.content {
            self.add(
                "group",
                Some(&delivery.group),
                Some(format!("/lag#lag-{}", escaped(&delivery.group))),
            );
            self.add(
                "subscription",
                delivery.expected.as_ref().and_then(|it| it.state.as_ref()),
                None,
            );
            self.add(
                "inbox",
                delivery.received.map(|it| format!("recorded as processed, {}", time(it))),
                None,
            );
        }
    }

    fn ids(&mut self, console: &Console) {
        let (event_id, event_type) = match &self.node.content {
            Content::Event(it) => (Some(&it.id), it.kind.as_ref()),
            Content::Delivery(it) => (it.event_id.as_ref(), it.event_type.as_ref()),
            _ => (None, None),
        };
        self.add("event type", event_type, None);
        self.add("event", event_id, event_id.map(|it| of_id(it)));
        for it in self.node.content.steps() {
            let step: &Step = &it.step;
            let place = step.topic.as_ref().zip(step.partition.zip(step.offset));
            let place = place.map(|(topic, (partition, offset))| {
                format!("{topic}, partition {partition}, offset {offset}")
            });
            self.add("place", place, None);
            self.add("event", step.event_id.as_ref(), step.event_id.as_deref().map(of_id));
            self.add("subject", step.subject.as_ref(), step.subject.as_deref().map(of_id));
            self.add(
                "correlation",
                step.correlation_id.as_ref(),
                step.correlation_id.as_deref().map(of_id),
            );
            let trace = step.trace_id.as_deref();
            self.add("trace", trace, trace.and_then(|it| console.trace(it)));
            self.job(step.job_id.as_ref());
            self.letter(step.letter_id.as_ref());
            self.replay(step.replay_id.as_ref());
            let outcome = step.outcome.clone().or_else(|| step.status.map(|it| it.to_string()));
            self.add("outcome", outcome, None);
        }
    }

    fn row(&mut self, row: &OpenRow) {
        let open = &row.open;
        self.add("status", open.status.as_ref().or(open.state.as_ref()), None);
        self.add("since", row.since.map(time), None);
        self.add("due", open.due_at.as_ref(), None);
        self.add("by", open.by.as_ref(), None);
        self.add("why", open.why.as_ref(), None);
        self.add("event", open.event_id.as_ref(), open.event_id.as_deref().map(of_id));
        self.letter(open.letter_id.as_ref());
        self.replay(open.replay_id.as_ref());
        self.job(open.job_id.as_ref());
    }

    fn job(&mut self, id: Option<&String>) {
        let link = self.node.service.as_ref().zip(id);
        let link = link.map(|(service, id)| format!("/jobs/{}/{}", escaped(service), escaped(id)));
        self.add("job", id, link);
    }

    fn letter(&mut self, id: Option<&String>) {
        let link = self.node.service.as_ref().zip(id);
        let link = link
            .map(|(service, id)| format!("/failures/letters/{}/{}", escaped(service), escaped(id)));
        self.add("dead letter", id, link);
    }

    fn replay(&mut self, id: Option<&String>) {
        let link = self.node.service.as_ref().zip(id);
        let link =
            link.map(|(service, id)| format!("/replays/{}/{}", escaped(service), escaped(id)));
        self.add("replay", id, link);
    }
}

/// A recorded attempt: its number, time and error.
type Failed = (Option<u32>, Option<Timestamp>, Option<String>);

/// Returns the failed attempts within the steps, and failed runs of jobs.
fn attempts(node: &Node) -> Vec<Attempt> {
    let steps = node.content.steps();
    let inside = steps.iter().flat_map(|it| &it.step.attempts);
    let inside = inside.map(|it| -> Failed {
        (it.attempt, it.at.as_deref().and_then(Timestamp::parse), it.error.clone())
    });
    let runs = steps
        .iter()
        .filter(|it| matches!(node.content, Content::Job(_)) && it.step.error.is_some());
    let runs =
        runs.map(|it| (it.step.attempt, it.period.map(|it| it.start), it.step.error.clone()));
    let all: Vec<_> = inside.chain(runs).collect();
    let first = all.iter().filter_map(|it| it.1).min();
    let attempt = |(at, (number, moment, error)): (usize, Failed)| {
        let after = moment.zip(first).map(|(at, first)| format!("+{}", duration(at.since(first))));
        Attempt {
            number: number.map_or_else(|| (at + 1).to_string(), |it| it.to_string()),
            after: after.unwrap_or_default(),
            error: plain(&error.unwrap_or_default()),
        }
    };
    all.into_iter().enumerate().map(attempt).collect()
}

/// Returns the errors that are not in an attempt.
fn errors(steps: &[&Recorded], rows: &[&OpenRow]) -> Vec<String> {
    let of_steps =
        steps.iter().filter(|it| it.step.attempts.is_empty() && it.step.job_id.is_none());
    let of_steps = of_steps.filter_map(|it| it.step.error.as_ref());
    let of_rows = rows.iter().flat_map(|it| it.open.error.iter().chain(&it.open.reason));
    let mut errors: Vec<_> = of_steps.chain(of_rows).map(|it| plain(it)).collect();
    errors.dedup();
    errors
}
