//! A flow: the steps of one order across services, open work, and expected steps that are missing.
//!
//! [`Flow::collect`] queries every service and joins the responses into a tree of causes. The
//! command and the console render it.

mod causes;
mod clock;
mod collect;
mod entry;
mod expected;
mod finding;
mod json;
mod key;
mod sorting;
#[cfg(test)]
pub(crate) mod testing;
mod time;
mod tree;

pub(crate) use entry::{Content, Delivery, Event, Expected, Job, Lag, OpenRow, Recorded, Replay};
pub(crate) use finding::{Finding, State};
pub(crate) use time::Timestamp;

use std::collections::BTreeSet;

use kafka::Settings;

use self::clock::Clocks;
use self::collect::{Asked, Collected, can_ask, collect};
use self::sorting::Sorting;
use crate::client::Client;
use crate::error::Error;
use crate::error::with_cause;

/// A flow, joined from all services and Kafka.
#[derive(Debug)]
pub(crate) struct Flow {
    /// The requested id.
    pub(crate) id: String,
    pub(crate) correlation_ids: Vec<String>,
    /// Its subjects, such as orders.
    pub(crate) subjects: Vec<String>,
    pub(crate) services: Vec<Service>,
    /// How far this machine's clock is behind, in microseconds, if it differs from all others by
    /// the same. No time is corrected then.
    pub(crate) our_clock_is_behind: Option<i64>,
    /// The trees, whose roots have no known cause, by time.
    pub(crate) roots: Vec<Node>,
}

/// The response of a service.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) name: String,
    /// Why it did not answer, or not all requests.
    pub(crate) unreachable: Option<String>,
    /// The parts that it could not read, each with the reason.
    pub(crate) unavailable: Vec<String>,
    /// `false` with `FLOW_STEPS=off`.
    pub(crate) is_recording: bool,
    /// Whether it has more steps than the response.
    pub(crate) is_truncated: bool,
    /// Steps that it has dropped since its start.
    pub(crate) lost: u64,
    /// Microseconds by which its clock is ahead. Its times are corrected by that.
    pub(crate) clock_is_ahead: i64,
}

/// An entry of a flow, with its effects.
#[derive(Debug)]
pub(crate) struct Node {
    /// `None` if it is unknown which service published an event.
    pub(crate) service: Option<String>,
    /// When it began, by this machine's clock.
    pub(crate) start: Option<Timestamp>,
    pub(crate) end: Option<Timestamp>,
    pub(crate) content: Content,
    /// Sorted by time; expected entries come last.
    pub(crate) children: Vec<Node>,
}

impl Flow {
    /// Collects the flow of a correlation id, a subject or an event id. Kafka is queried only if a
    /// delivery is expected.
    ///
    /// Fails if no service accepts the id.
    pub(crate) async fn collect(
        clients: &[Client],
        kafka: &Settings,
        id: &str,
    ) -> Result<Self, Error> {
        if !can_ask(id) {
            return Err(Error::Refused(
                "the id is empty, or can't be one: give a correlation id, an order id or an event id".into(),
            ));
        }
        let mut passed = BTreeSet::new();
        loop {
            let mut collected = collect(clients, id).await;
            refuse(&mut collected)?;
            let clocks = Clocks::new(&collected.services);
            let mut sorting = sort(&collected.services, &clocks);
            expected::locate(&mut sorting, kafka).await;
            // A group may have processed an event after its service was queried and before Kafka
            // was.
            let passed_now = expected::passed(&sorting);
            if passed_now.is_subset(&passed) {
                return Ok(Self::new(id, collected, &clocks, sorting));
            }
            passed.extend(passed_now);
        }
    }

    fn new(id: &str, collected: Collected, clocks: &Clocks, mut sorting: Sorting) -> Self {
        causes::link(&mut sorting);
        let services = collected.services.iter().zip(&clocks.ahead);
        Self {
            id: id.to_owned(),
            subjects: tree::subjects(&sorting, &collected.correlation_ids),
            services: services.map(|(it, ahead)| Service::new(it, *ahead)).collect(),
            correlation_ids: collected.correlation_ids,
            our_clock_is_behind: clocks.ours_is_behind,
            roots: tree::grow(sorting.entries),
        }
    }

    /// Returns all nodes, causes before effects.
    pub(crate) fn nodes(&self) -> Vec<&Node> {
        let mut nodes = Vec::new();
        let mut left: Vec<_> = self.roots.iter().rev().collect();
        while let Some(node) = left.pop() {
            nodes.push(node);
            left.extend(node.children.iter().rev());
        }
        nodes
    }

    /// Returns the start of the flow: the earliest start of a root, if a root has one.
    pub(crate) fn start(&self) -> Option<Timestamp> {
        let of_roots = self.roots.iter().filter_map(|it| it.start).min();
        of_roots.or_else(|| self.nodes().into_iter().filter_map(|it| it.start).min())
    }

    /// Returns the microseconds from its start to the end of its last step.
    pub(crate) fn took(&self) -> Option<i64> {
        let end = self.nodes().into_iter().filter_map(|it| it.end.max(it.start)).max()?;
        Some(end.since(self.start()?).max(0))
    }

    /// Returns the trace ids of the roots, by time. Invalid trace ids are left out.
    pub(crate) fn traces(&self) -> Vec<&str> {
        let is_trace = |it: &&str| it.len() == 32 && it.bytes().all(|it| it.is_ascii_hexdigit());
        let mut traces = Vec::new();
        let of_roots = self.roots.iter().filter(|it| !matches!(it.content, Content::Event(_)));
        let steps = of_roots.flat_map(|it| it.content.steps());
        let mut all = steps.filter_map(|it| it.step.trace_id.as_deref()).collect::<Vec<_>>();
        if all.is_empty() {
            let steps = self.nodes().into_iter().flat_map(|it| it.content.steps());
            all = steps.filter_map(|it| it.step.trace_id.as_deref()).take(1).collect();
        }
        for trace in all.into_iter().filter(is_trace) {
            if !traces.contains(&trace) {
                traces.push(trace);
            }
        }
        traces
    }
}

impl Service {
    fn new(asked: &Asked, clock_is_ahead: i64) -> Self {
        let mut unavailable: Vec<_> =
            asked.parts.iter().flat_map(|it| it.unavailable.clone()).collect();
        if asked.error.is_none() {
            let subscriptions = asked.without_subscriptions.as_ref();
            unavailable.extend(subscriptions.map(|why| format!("subscriptions: {why}")));
        }
        unavailable.sort_unstable();
        unavailable.dedup();
        Self {
            name: asked.service.clone(),
            unreachable: asked.error.as_ref().map(with_cause),
            unavailable,
            is_recording: asked.parts.iter().all(|it| it.recording),
            is_truncated: asked.parts.iter().any(|it| it.truncated),
            lost: asked.parts.iter().map(|it| it.lost).max().unwrap_or_default(),
            clock_is_ahead,
        }
    }
}

/// Fails with the first service's problem if all of them refused the id.
fn refuse(collected: &mut Collected) -> Result<(), Error> {
    let refused = |it: &Asked| matches!(it.error, Some(Error::Problem { status: 400, .. }));
    if collected.services.iter().all(refused)
        && let Some(error) = collected.services.first_mut().and_then(|it| it.error.take())
    {
        return Err(error);
    }
    Ok(())
}

/// Sorts the responses of all services, and adds expected deliveries.
fn sort(services: &[Asked], clocks: &Clocks) -> Sorting {
    let mut sorting = sorting::sort(services, &clocks.ahead);
    causes::add_unpublished(&mut sorting);
    expected::add(&mut sorting, services);
    sorting
}
