//! Entries of a flow. Several steps and rows may belong to one entry, such as the runs of a job.

use super::time::Timestamp;
use crate::client::{Answer, InboxRow, Open, Step};

/// An entry of a flow, with its cause.
#[derive(Debug)]
pub(crate) struct Entry {
    /// `None` if it is unknown which service published an event.
    pub(crate) service: Option<String>,
    pub(crate) content: Content,
    /// Index of the cause.
    pub(crate) parent: Option<usize>,
}

#[derive(Debug)]
pub(crate) enum Content {
    /// A request, a deferred task, or a step of an unknown kind.
    Step(Recorded),
    Event(Event),
    Delivery(Delivery),
    Letter(OpenRow),
    Replay(Replay),
    Job(Job),
    /// An open row of an unknown kind.
    Open(OpenRow),
}

/// A step, with its times by the flow's clock.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    pub(crate) step: Answer<Step>,
    pub(crate) period: Option<Period>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Period {
    pub(crate) start: Timestamp,
    pub(crate) end: Timestamp,
}

/// An open row, with its time by the flow's clock.
#[derive(Clone, Debug)]
pub(crate) struct OpenRow {
    pub(crate) open: Answer<Open>,
    pub(crate) since: Option<Timestamp>,
}

/// An event, from its row in the outbox to its record in Kafka.
#[derive(Debug, Default)]
pub(crate) struct Event {
    pub(crate) id: String,
    /// Type of the event.
    pub(crate) kind: Option<String>,
    /// Its waits in the outbox.
    pub(crate) waits: Vec<Recorded>,
    /// Several publications if the relay was killed before it learned that Kafka has the record.
    pub(crate) published: Vec<Recorded>,
    /// Its row in the outbox, until it is published.
    pub(crate) outbox: Option<OpenRow>,
}

/// An event in one consumer group.
#[derive(Debug, Default)]
pub(crate) struct Delivery {
    pub(crate) group: String,
    pub(crate) event_id: Option<String>,
    pub(crate) event_type: Option<String>,
    pub(crate) steps: Vec<Recorded>,
    /// Row of a message whose attempts are not finished.
    pub(crate) parked: Option<OpenRow>,
    pub(crate) inbox: Option<InboxRow>,
    pub(crate) received: Option<Timestamp>,
    /// `true` if the event became a dead letter, even if it was replayed or discarded since.
    pub(crate) has_letter: bool,
    /// `true` if a replay has processed the event.
    pub(crate) was_replayed: bool,
    /// Set if nothing is recorded although the group handles the type.
    pub(crate) expected: Option<Expected>,
}

/// An event that a group handles but has no record of.
#[derive(Debug)]
pub(crate) struct Expected {
    pub(crate) lag: Lag,
    /// State of the subscription, unless it is `running`.
    pub(crate) state: Option<String>,
}

/// Position of the group relative to the event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lag {
    /// The event is not published yet.
    Unpublished,
    /// This number of messages of the partition precede it.
    Behind(i64),
    /// The group has committed a later offset.
    Passed,
    /// The group has not committed an offset in that partition.
    NothingCommitted,
    /// Unknown, with the reason.
    Unknown(String),
}

/// A replay or rehearsal of a dead letter.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    pub(crate) steps: Vec<Recorded>,
    pub(crate) row: Option<OpenRow>,
}

/// A durable job with its runs.
#[derive(Debug, Default)]
pub(crate) struct Job {
    pub(crate) id: String,
    pub(crate) kind: Option<String>,
    pub(crate) runs: Vec<Recorded>,
    /// Its row, until it is done.
    pub(crate) row: Option<OpenRow>,
}

impl Recorded {
    /// Returns `true` if the message was settled in this step.
    pub(crate) fn is_settled(&self) -> bool {
        let outcome = self.step.outcome.as_deref();
        matches!(outcome, Some("processed" | "duplicate" | "superseded" | "ignored"))
    }
}

impl Delivery {
    /// Returns `true` if the group has settled the event.
    pub(crate) fn is_settled(&self) -> bool {
        self.inbox.is_some() || self.was_replayed || self.steps.iter().any(Recorded::is_settled)
    }

    /// Returns the index of the first step with an outcome. A step has none if its attempts failed
    /// and the instance then gave the message up, for example at a restart.
    pub(crate) fn first_outcome(&self) -> Option<usize> {
        self.steps.iter().position(|it| it.step.outcome.is_some())
    }
}

impl Replay {
    pub(crate) fn is_rehearsal(&self) -> bool {
        self.row.as_ref().is_some_and(|it| it.open.rehearsal)
            || self.steps.iter().any(|it| it.step.kind == "rehearsal")
    }

    /// Returns the status of the letter.
    pub(crate) fn outcome(&self) -> Option<&str> {
        let of_row = self.row.as_ref().and_then(|it| it.open.outcome.as_deref());
        of_row.or_else(|| self.steps.last().and_then(|it| it.step.outcome.as_deref()))
    }
}

impl Content {
    /// Returns the entry's steps.
    pub(crate) fn steps(&self) -> Vec<&Recorded> {
        match self {
            Self::Step(step) => vec![step],
            Self::Event(event) => event.waits.iter().chain(&event.published).collect(),
            Self::Delivery(delivery) => delivery.steps.iter().collect(),
            Self::Replay(replay) => replay.steps.iter().collect(),
            Self::Job(job) => job.runs.iter().collect(),
            Self::Letter(_) | Self::Open(_) => Vec::new(),
        }
    }

    /// Returns the entry's rows.
    pub(crate) fn rows(&self) -> Vec<&OpenRow> {
        match self {
            Self::Step(_) => Vec::new(),
            Self::Event(event) => event.outbox.iter().collect(),
            Self::Delivery(delivery) => delivery.parked.iter().collect(),
            Self::Replay(replay) => replay.row.iter().collect(),
            Self::Job(job) => job.row.iter().collect(),
            Self::Letter(row) | Self::Open(row) => vec![row],
        }
    }

    /// Returns when it began, if known.
    pub(crate) fn start(&self) -> Option<Timestamp> {
        let steps = self.steps().into_iter().filter_map(|it| Some(it.period?.start)).min();
        let received = if let Self::Delivery(it) = self { it.received } else { None };
        steps.or_else(|| self.rows().into_iter().filter_map(|it| it.since).min()).or(received)
    }

    /// Returns when the last of its steps ended.
    pub(crate) fn end(&self) -> Option<Timestamp> {
        self.steps().into_iter().filter_map(|it| Some(it.period?.end)).max()
    }
}
