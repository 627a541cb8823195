//! Items of the picture: for each node its lane, and when it waited, ran and failed.

use std::collections::BTreeMap;

use super::label::Labels;
use crate::flow::{
    Content, Delivery, Event, Flow, Job, Lag, Node, OpenRow, Recorded, Replay, Timestamp,
};
use crate::show_flow::{Shown, Tone, collapse, summary, tone};

/// A lane; the variants are in order from top to bottom.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lane {
    Service(String),
    Outbox,
    Kafka,
    Group(String),
    Jobs,
    Letters,
    Replays,
    Other,
}

/// An item in a lane.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) lane: Lane,
    /// Key of the step that it opens. `None` for counted ones.
    pub(super) step: Option<String>,
    /// Index of the item from which its arrow comes.
    pub(super) cause: Option<usize>,
    pub(super) intervals: Vec<Interval>,
    pub(super) marks: Vec<Mark>,
    pub(super) label: String,
    /// The label, time and service, for the tooltip and for screen readers.
    pub(super) tip: String,
    pub(super) tone: Tone,
}

/// A time span.
#[derive(Debug)]
pub(super) struct Interval {
    pub(super) kind: Kind,
    pub(super) from: Timestamp,
    /// `None` while it continues.
    pub(super) to: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Ran,
    Waited,
    /// A dead letter that waits for an operator.
    Held,
    /// An expected delivery that is missing.
    Missing,
}

/// A point in time.
#[derive(Clone, Debug)]
pub(super) struct Mark {
    pub(super) sign: Sign,
    pub(super) at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// A record in Kafka.
    Record,
    /// A failed attempt.
    Failure,
    /// A message or letter was settled.
    Done,
    /// The last attempt failed.
    GaveUp,
    Rehearsal,
    /// An item that is only counted.
    Counted,
    /// An event whose publication is not recorded.
    Unrecorded,
}

/// Returns the items of a flow, causes first, without those that have no time.
pub(super) fn items(flow: &Flow, collapses: bool) -> Vec<Item> {
    let mut items = Items { labels: Labels::new(flow), collapses, done: Vec::new() };
    for shown in collapse(&flow.roots, collapses) {
        items.add(&shown, None, None);
    }
    items.done
}

struct Items {
    labels: Labels,
    collapses: bool,
    done: Vec<Item>,
}

/// The shape of an item without its label.
#[derive(Default)]
struct Shape {
    intervals: Vec<Interval>,
    marks: Vec<Mark>,
}

impl Items {
    fn add(&mut self, shown: &Shown<'_>, cause: Option<usize>, cause_node: Option<&Node>) {
        let node = shown.node;
        let drawn = self.draw(node, cause, cause_node);
        for child in collapse(&node.children, self.collapses) {
            self.add(&child, drawn.or(cause), Some(node));
        }
        if !shown.like.is_empty() {
            self.count(&shown.like);
        }
    }

    /// Returns the item from which the arrows to effects start.
    fn draw(&mut self, node: &Node, cause: Option<usize>, above: Option<&Node>) -> Option<usize> {
        let lane = lane(node);
        let shape = match &node.content {
            Content::Event(event) => return self.draw_event(node, event, cause),
            Content::Step(it) => run(it).into_iter().collect(),
            Content::Delivery(it) => of_delivery(it, above),
            Content::Letter(row) => of_letter(row, node),
            Content::Replay(it) => of_replay(it),
            Content::Job(it) => of_job(it),
            Content::Open(row) => row
                .since
                .map(|from| Interval { kind: Kind::Waited, from, to: None })
                .into_iter()
                .collect(),
        };
        self.push(node, lane, shape, cause)
    }

    fn draw_event(&mut self, node: &Node, event: &Event, cause: Option<usize>) -> Option<usize> {
        let mut outbox = Shape::default();
        let periods = event.waits.iter().filter_map(|it| it.period);
        let waits =
            periods.map(|it| Interval { kind: Kind::Waited, from: it.start, to: Some(it.end) });
        outbox.intervals.extend(waits);
        if let Some(from) = event.outbox.as_ref().and_then(|it| it.since) {
            outbox.intervals.push(Interval { kind: Kind::Waited, from, to: None });
            outbox.marks.extend(failures(&event.published));
        }
        let mut kafka = Shape::default();
        if event.outbox.is_none() {
            let ends = event.published.iter().filter_map(|it| Some(it.period?.end));
            kafka.marks.extend(ends.map(|at| Mark { sign: Sign::Record, at }));
            if event.published.is_empty() {
                // It takes the time of its effects.
                let at = node.children.iter().filter_map(|it| it.start).min();
                kafka.marks.extend(at.map(|at| Mark { sign: Sign::Unrecorded, at }));
            }
        }
        let waited = self.push(node, Lane::Outbox, outbox, cause);
        self.push(node, Lane::Kafka, kafka, waited.or(cause)).or(waited)
    }

    fn push(
        &mut self,
        node: &Node,
        lane: Lane,
        mut shape: Shape,
        cause: Option<usize>,
    ) -> Option<usize> {
        shape.intervals.retain(|it| it.to.is_none_or(|to| to >= it.from));
        if shape.intervals.is_empty() && shape.marks.is_empty() {
            return None;
        }
        shape.marks.sort_by_key(|it| it.at);
        let (label, tip) = self.labels.of(node, &lane);
        self.done.push(Item {
            lane,
            step: Some(node.short_key()),
            cause,
            intervals: shape.intervals,
            marks: shape.marks,
            label,
            tip,
            tone: tone(node),
        });
        Some(self.done.len() - 1)
    }

    /// Draws items similar to the last one, and their effects, as one row of marks in each lane.
    fn count(&mut self, like: &[&Node]) {
        let mut counted: BTreeMap<Lane, (Vec<Mark>, Tone)> = BTreeMap::new();
        let mut left: Vec<_> = like.iter().map(|it| (*it, it.start)).collect();
        while let Some((node, at)) = left.pop() {
            let lane =
                if matches!(node.content, Content::Event(_)) { Lane::Kafka } else { lane(node) };
            let (marks, worst) = counted.entry(lane).or_insert((Vec::new(), Tone::Plain));
            marks.extend(at.map(|at| Mark { sign: Sign::Counted, at }));
            *worst = (*worst).max(tone(node));
            // An expected delivery has no time and takes that of its cause.
            left.extend(node.children.iter().map(|it| (it, it.start.or(at))));
        }
        let first = like
            .first()
            .map(|it| if matches!(it.content, Content::Event(_)) { Lane::Kafka } else { lane(it) });
        for (lane, (mut marks, tone)) in counted {
            if marks.is_empty() {
                continue;
            }
            marks.sort_by_key(|it| it.at);
            let label = if Some(&lane) == first.as_ref() {
                summary(like).trim_start_matches("... and ").to_owned()
            } else {
                format!("{} more", marks.len())
            };
            let tip = format!("{label}; the text can show each of them");
            let (step, cause) = (None, None);
            self.done.push(Item {
                lane,
                step,
                cause,
                intervals: Vec::new(),
                marks,
                label,
                tip,
                tone,
            });
        }
    }
}

impl Item {
    /// Returns all its times, and whether it continues.
    pub(super) fn times(&self) -> impl Iterator<Item = Timestamp> {
        let ends = self.intervals.iter().flat_map(|it| [Some(it.from), it.to]).flatten();
        ends.chain(self.marks.iter().map(|it| it.at))
    }

    pub(super) fn is_open(&self) -> bool {
        self.intervals.iter().any(|it| it.to.is_none())
    }

    /// Returns the first time that is not a wait.
    pub(super) fn first_activity(&self) -> Option<Timestamp> {
        let intervals = self.intervals.iter();
        let intervals = intervals.filter(|it| matches!(it.kind, Kind::Ran | Kind::Held));
        intervals.map(|it| it.from).chain(self.marks.iter().map(|it| it.at)).min()
    }
}

impl FromIterator<Interval> for Shape {
    fn from_iter<T: IntoIterator<Item = Interval>>(intervals: T) -> Self {
        Self { intervals: intervals.into_iter().collect(), marks: Vec::new() }
    }
}

fn lane(node: &Node) -> Lane {
    match &node.content {
        Content::Step(_) => Lane::Service(node.service.clone().unwrap_or_default()),
        Content::Event(_) => Lane::Outbox,
        Content::Delivery(it) => Lane::Group(it.group.clone()),
        Content::Letter(_) => Lane::Letters,
        Content::Replay(_) => Lane::Replays,
        Content::Job(_) => Lane::Jobs,
        Content::Open(_) => Lane::Other,
    }
}

fn run(it: &Recorded) -> Option<Interval> {
    it.period.map(|it| Interval { kind: Kind::Ran, from: it.start, to: Some(it.end) })
}

/// Returns a mark at the end of each failed step.
fn failures(steps: &[Recorded]) -> impl Iterator<Item = Mark> {
    let failed = steps.iter().filter(|it| it.step.error.is_some());
    failed.filter_map(|it| Some(Mark { sign: Sign::Failure, at: it.period?.end }))
}

fn of_delivery(delivery: &Delivery, above: Option<&Node>) -> Shape {
    let mut shape = Shape::default();
    let published = above.and_then(|it| match &it.content {
        Content::Event(event) => event.published.last()?.period.map(|it| it.end),
        _ => None,
    });
    if let Some(expected) = &delivery.expected {
        let since = published.or_else(|| above?.start);
        let is_over = expected.lag == Lag::Passed;
        let to = since.filter(|_| is_over);
        shape.intervals.extend(since.map(|from| Interval { kind: Kind::Missing, from, to }));
        shape.marks.extend(to.map(|at| Mark { sign: Sign::Unrecorded, at }));
        return shape;
    }
    let mut last = published;
    for it in &delivery.steps {
        let Some(period) = it.period else { continue };
        let waited = last.map(|from| Interval { kind: Kind::Waited, from, to: Some(period.start) });
        shape.intervals.extend(waited);
        let attempts: Vec<_> = attempts(it).collect();
        let kind = if attempts.is_empty() { Kind::Ran } else { Kind::Waited };
        shape.intervals.push(Interval { kind, from: period.start, to: Some(period.end) });
        let end = match it.step.outcome.as_deref() {
            _ if attempts.is_empty() => None,
            Some("dead-lettered") => Some(Sign::GaveUp),
            _ => it.is_settled().then_some(Sign::Done),
        };
        shape.marks.extend(attempts);
        shape.marks.extend(end.map(|sign| Mark { sign, at: period.end }));
        last = Some(period.end);
    }
    if let Some(row) = &delivery.parked {
        let since = delivery.steps.last().and_then(|it| Some(it.period?.end)).or(row.since);
        let is_open = since.map(|from| Interval { kind: Kind::Waited, from, to: None });
        shape.intervals.extend(is_open);
        if delivery.steps.is_empty() {
            let waited = published.zip(row.since);
            let waited =
                waited.map(|(from, to)| Interval { kind: Kind::Waited, from, to: Some(to) });
            shape.intervals.extend(waited);
            shape.marks.extend(row.since.map(|at| Mark { sign: Sign::Failure, at }));
        }
    } else if shape.intervals.is_empty() {
        shape.marks.extend(delivery.received.map(|at| Mark { sign: Sign::Done, at }));
    }
    shape
}

/// Returns the failed attempts of a step. A step that failed at once has one, at its end.
fn attempts(it: &Recorded) -> impl Iterator<Item = Mark> {
    let started = it.step.started_at.as_deref().and_then(Timestamp::parse);
    let period = it.period;
    // Converts the time to the flow's clock: the distance from the start is the same in both.
    let by_our_clock =
        move |at: Timestamp| Some(period?.start.plus(at.since(started?)).min(period?.end));
    let marks = it.step.attempts.iter().filter_map(move |it| {
        let at = by_our_clock(Timestamp::parse(it.at.as_deref()?)?)?;
        Some(Mark { sign: Sign::Failure, at })
    });
    let is_bare = it.step.error.is_some() && it.step.attempts.is_empty();
    let bare = it.period.filter(|_| is_bare).map(|it| Mark { sign: Sign::Failure, at: it.end });
    marks.chain(bare)
}

fn of_letter(row: &OpenRow, node: &Node) -> Shape {
    let Some(from) = row.since else { return Shape::default() };
    let status = row.open.status.as_deref();
    if !matches!(status, Some("resolved" | "discarded")) {
        return Shape::from_iter([Interval { kind: Kind::Held, from, to: None }]);
    }
    // The time of closing is not recorded; the last replay closed it.
    let to = node.children.iter().filter_map(|it| match &it.content {
        Content::Replay(replay) if !replay.is_rehearsal() => it.end.or(it.start),
        _ => None,
    });
    let held = to.max().map(|to| Interval { kind: Kind::Held, from, to: Some(to) });
    let marks = if held.is_none() { vec![Mark { sign: Sign::Done, at: from }] } else { Vec::new() };
    Shape { intervals: held.into_iter().collect(), marks }
}

fn of_replay(replay: &Replay) -> Shape {
    let mut shape: Shape = replay.steps.iter().filter_map(run).collect();
    shape.marks.extend(failures(&replay.steps));
    let Some(since) = replay.row.as_ref().and_then(|it| it.since) else { return shape };
    let status = replay.row.as_ref().and_then(|it| it.open.status.as_deref());
    let is_over = matches!(status, Some("done" | "cancelled")) || replay.outcome().is_some();
    let to = shape.intervals.iter().map(|it| it.from).min();
    if to.is_some() || !is_over {
        shape.intervals.push(Interval { kind: Kind::Waited, from: since, to });
    } else {
        let sign = match replay.outcome() {
            Some("failed") => Sign::Failure,
            _ if replay.is_rehearsal() => Sign::Rehearsal,
            _ => Sign::Done,
        };
        shape.marks.push(Mark { sign, at: since });
    }
    shape
}

fn of_job(job: &Job) -> Shape {
    let mut shape: Shape = job.runs.iter().filter_map(run).collect();
    shape.marks.extend(failures(&job.runs));
    let periods: Vec<_> = job.runs.iter().filter_map(|it| it.period).collect();
    let between = periods.windows(2).map(|it| Interval {
        kind: Kind::Waited,
        from: it[0].end,
        to: Some(it[1].start),
    });
    shape.intervals.extend(between);
    let Some(row) = &job.row else { return shape };
    let last = periods.last().map(|it| it.end);
    let asked = row.since.zip(periods.first()).map(|(from, first)| Interval {
        kind: Kind::Waited,
        from,
        to: Some(first.start),
    });
    shape.intervals.extend(asked);
    let kind = match row.open.state.as_deref() {
        Some("failed") => Kind::Held,
        Some("running") => Kind::Ran,
        _ => Kind::Waited,
    };
    shape.intervals.extend(last.or(row.since).map(|from| Interval { kind, from, to: None }));
    shape
}
