//! Finds the cause of each entry: first by event, then by trace and time.
//!
//! Not every step carries the span id of its cause. So a job or an event is put under a step of its
//! service and trace: the one that was running when it began, or the last one before.

use super::entry::{Content, Period, Recorded};
use super::sorting::Sorting;
use super::time::Timestamp;
use crate::client::Step;

/// How much later than its effect a cause of the same trace may begin, in microseconds. An event's
/// row has the time of the database's clock.
const TOLERATED: i64 = 1_000_000;

/// A possible cause.
struct Cause {
    entry: usize,
    service: String,
    trace_id: Option<String>,
    correlation_id: Option<String>,
    kind: String,
    period: Period,
}

/// An effect whose cause is searched.
struct Effect<'a> {
    service: &'a str,
    is_job: bool,
    step: Option<&'a Step>,
    at: Timestamp,
}

/// Links every entry to its cause, if known.
pub(crate) fn link(sorting: &mut Sorting) {
    let causes = causes(sorting);
    for entry in 0..sorting.entries.len() {
        if let Some(parent) = parent(sorting, &causes, entry)
            && !is_under(sorting, parent, entry)
        {
            sorting.entries[entry].parent = Some(parent);
        }
    }
}

/// Adds events that were consumed but whose publication is not recorded. Events from requests need
/// none.
pub(crate) fn add_unpublished(sorting: &mut Sorting) {
    let requests = causes(sorting);
    let consumed = sorting.entries.iter().filter_map(|entry| {
        let Content::Delivery(delivery) = &entry.content else { return None };
        let id = delivery.event_id.clone()?;
        let request_of = request_of(&requests, entry.service.as_deref()?, &delivery.steps);
        request_of.is_none().then(|| (id, delivery.event_type.clone()))
    });
    for (id, event_type) in consumed.collect::<Vec<_>>() {
        let event = sorting.event_of(&id, None);
        event.kind = event.kind.take().or(event_type);
    }
}

fn causes(sorting: &Sorting) -> Vec<Cause> {
    let mut causes = Vec::new();
    for (at, entry) in sorting.entries.iter().enumerate() {
        let Some(service) = &entry.service else { continue };
        if matches!(entry.content, Content::Event(_)) {
            continue;
        }
        for it in entry.content.steps() {
            let Some(period) = it.period else { continue };
            causes.push(Cause {
                entry: at,
                service: service.clone(),
                trace_id: it.step.trace_id.clone(),
                correlation_id: it.step.correlation_id.clone(),
                kind: it.step.kind.clone(),
                period,
            });
        }
    }
    causes
}

fn parent(sorting: &Sorting, causes: &[Cause], at: usize) -> Option<usize> {
    let entry = &sorting.entries[at];
    let service = entry.service.as_deref();
    match &entry.content {
        Content::Delivery(it) => {
            let event = it.event_id.as_ref().and_then(|id| sorting.event(id));
            event.or_else(|| request_of(causes, service?, &it.steps))
        }
        Content::Letter(row) => {
            sorting.delivery(row.open.event_id.as_deref()?, row.open.group.as_deref()?)
        }
        Content::Replay(replay) => {
            let of_row = replay.row.as_ref().map(|it| (&it.open.letter_id, &it.open.group));
            let of_step = replay.steps.first().map(|it| (&it.step.letter_id, &it.step.group));
            let letter = [of_row, of_step].into_iter().flatten().find_map(|(id, _)| id.as_deref());
            let group = [of_row, of_step].into_iter().flatten().find_map(|(_, it)| it.as_deref());
            let (found, event) =
                letter.map_or((None, None), |letter| sorting.letter(service, letter));
            let event = event.or_else(|| replay.steps.first()?.step.event_id.as_deref());
            found.or_else(|| sorting.delivery(event?, group?))
        }
        Content::Step(it) if it.step.kind == "request" => calling(causes, service?, it),
        Content::Open(_) => None,
        content => {
            let effect = Effect {
                service: service?,
                is_job: matches!(content, Content::Job(_)),
                step: content.steps().first().map(|it| &*it.step),
                // A job is enqueued when its row is written.
                at: content
                    .rows()
                    .into_iter()
                    .filter_map(|it| it.since)
                    .chain(content.start())
                    .min()?,
            };
            effect.cause(causes, at)
        }
    }
}

/// Returns the request that posted an event to the direct feed. Such an event has no offset in
/// Kafka.
fn request_of(causes: &[Cause], service: &str, steps: &[Recorded]) -> Option<usize> {
    let step = steps.iter().find(|it| it.step.offset.is_none())?;
    let start = step.period?.start;
    let found = causes.iter().find(|cause| {
        let is_there = cause.service == service && cause.kind == "request";
        is_there
            && is_same(cause.trace_id.as_ref(), step.step.trace_id.as_ref())
            && cause.distance(start) == 0
    });
    found.map(|cause| cause.entry)
}

/// Returns the step of another service that waited for a request.
fn calling(causes: &[Cause], service: &str, request: &Recorded) -> Option<usize> {
    let start = request.period?.start;
    let calls = causes.iter().filter(|cause| {
        cause.service != service
            && is_same(cause.trace_id.as_ref(), request.step.trace_id.as_ref())
            && cause.distance(start) == 0
    });
    calls.max_by_key(|cause| cause.period.start).map(|cause| cause.entry)
}

impl Effect<'_> {
    /// Returns the cause in the same service and trace, else in the same service and flow: the one
    /// that was running, else the one that ended last before.
    fn cause(&self, causes: &[Cause], itself: usize) -> Option<usize> {
        let is_deferred = self.step.is_some_and(|it| it.kind == "deferred");
        let there = causes.iter().filter(|cause| {
            // It is unknown when a finished job was enqueued. Other jobs may have run at that time.
            let can_cause = match &*cause.kind {
                "deferred" => !is_deferred,
                "job" => !self.is_job,
                _ => true,
            };
            cause.service == self.service && cause.entry != itself && can_cause
        });
        let nearest = |causes: &mut dyn Iterator<Item = &Cause>, tolerated: i64| {
            let near = causes.filter(|cause| cause.period.start.since(self.at) <= tolerated);
            let key = |it: &&Cause| (it.distance(self.at), std::cmp::Reverse(it.period.start));
            near.min_by_key(key).map(|cause| cause.entry)
        };
        let Some(step) = self.step else {
            return nearest(&mut { there }, 0);
        };
        let of_trace =
            there.clone().filter(|it| is_same(it.trace_id.as_ref(), step.trace_id.as_ref()));
        let of_flow =
            there.filter(|it| is_same(it.correlation_id.as_ref(), step.correlation_id.as_ref()));
        nearest(&mut { of_trace }, TOLERATED).or_else(|| nearest(&mut { of_flow }, 0))
    }
}

impl Cause {
    /// Returns 0 if the cause was running at that time, else the distance in microseconds.
    fn distance(&self, at: Timestamp) -> i64 {
        at.since(self.period.end).max(self.period.start.since(at)).max(0)
    }
}

fn is_same(one: Option<&String>, other: Option<&String>) -> bool {
    one.is_some() && one == other
}

/// Returns `true` if the first is the second or one of its effects. A service's answer may contain
/// circular links.
fn is_under(sorting: &Sorting, first: usize, second: usize) -> bool {
    let mut at = Some(first);
    while let Some(here) = at {
        if here == second {
            return true;
        }
        at = sorting.entries[here].parent;
    }
    false
}
