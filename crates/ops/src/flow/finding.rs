//! Findings: problems and open work of a flow.

use serde::Serialize;

use super::entry::{Content, Lag};
use super::{Flow, Node};
use crate::client::{Open, Step};

/// State of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// All expected steps have happened.
    Complete,
    /// Work is waiting and will continue without an operator.
    Waiting,
    /// Work has failed and needs an operator, or a service can't be reached.
    Failed,
    /// The id is unknown.
    Unknown,
}

/// A problem, or open work. Texts are as sent by the services.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Finding {
    /// A service can't be reached, or has no flows.
    Unreachable { service: String, why: String },
    /// A service could not read all its tables.
    Unavailable { service: String, why: String },
    /// A dead letter waits for an operator, or is being replayed.
    DeadLetter { service: String, group: String, letter_id: String, status: String },
    /// A job has used up its attempts.
    FailedJob { service: String, job_id: String, job_kind: String },
    /// A request, a deferred task or a delivery failed without a later success.
    FailedStep { service: String, what: String },
    /// A group has committed an offset after the event, but has no record of it.
    Passed { service: String, group: String, event_type: String },
    /// A group has not reached the event yet.
    Expected { service: String, group: String, event_type: String, behind: Option<i64> },
    /// An event is waiting in the outbox.
    Unpublished { service: String, event_type: String },
    /// A group is retrying.
    Retrying { service: String, group: String, failures: u64 },
    /// A job is waiting or running.
    Job { service: String, job_id: String, job_kind: String },
    /// A replay or rehearsal is queued, paused or running.
    Replay { service: String, replay_id: String, status: String },
}

impl Finding {
    /// Returns `true` if it needs an operator, or that is unknown.
    pub(crate) fn is_failure(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. }
                | Self::Unavailable { .. }
                | Self::DeadLetter { .. }
                | Self::FailedJob { .. }
                | Self::FailedStep { .. }
                | Self::Passed { .. }
        )
    }

    /// Returns `true` if it will not change by itself.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self, Self::FailedStep { .. } | Self::Passed { .. })
    }
}

impl Flow {
    /// Returns the state of the flow.
    pub(crate) fn state(&self) -> State {
        let findings = self.findings();
        if findings.iter().any(Finding::is_failure) {
            // A service that does not answer may know the whole flow.
            return State::Failed;
        }
        match (self.is_empty(), findings.is_empty()) {
            (true, _) => State::Unknown,
            (false, true) => State::Complete,
            (false, false) => State::Waiting,
        }
    }

    /// Returns the findings, those of services first, then in the order of causes. A request that
    /// failed counts unless a repetition of it succeeded.
    pub(crate) fn findings(&self) -> Vec<Finding> {
        let of_services = self.services.iter().flat_map(|it| {
            let service = it.name.clone();
            let unreachable =
                it.unreachable.clone().map(|why| Finding::Unreachable { service, why });
            let unavailable = it
                .unavailable
                .iter()
                .map(|why| Finding::Unavailable { service: it.name.clone(), why: why.clone() });
            unreachable.into_iter().chain(unavailable)
        });
        let nodes = self.nodes();
        let of_nodes = nodes.iter().filter_map(|node| {
            let finding = node.finding()?;
            let has_failed = matches!(finding, Finding::FailedStep { .. });
            let is_over = has_failed && was_repeated(node, &nodes);
            (!is_over).then_some(finding)
        });
        of_services.chain(of_nodes).collect()
    }
}

impl Node {
    /// Returns the finding of an entry, without those of its effects. A request that failed has
    /// one even if a repetition of it succeeded.
    pub(crate) fn finding(&self) -> Option<Finding> {
        of_node(self)
    }
}

fn of_node(node: &Node) -> Option<Finding> {
    let service = node.service.clone().unwrap_or_default();
    match &node.content {
        Content::Step(it) => {
            // A request that the service refused is no failure of the flow.
            let failed = it.step.status.map_or(it.step.error.is_some(), |status| status >= 500);
            let name = || it.step.name.clone().unwrap_or_else(|| it.step.kind.clone());
            failed.then(|| Finding::FailedStep { service, what: name() })
        }
        Content::Event(event) => {
            let event_type = event.kind.clone().unwrap_or_default();
            event.outbox.as_ref().map(|_| Finding::Unpublished { service, event_type })
        }
        Content::Delivery(_) => of_delivery(node, service),
        Content::Letter(row) => {
            let Open { group, letter_id, status, .. } = (*row.open).clone();
            let status = status.unwrap_or_default();
            let is_closed = matches!(&*status, "resolved" | "discarded");
            let (group, letter_id) = (group.unwrap_or_default(), letter_id.unwrap_or_default());
            (!is_closed).then_some(Finding::DeadLetter { service, group, letter_id, status })
        }
        Content::Replay(replay) => {
            let row = &replay.row.as_ref()?.open;
            let (replay_id, status) = (row.replay_id.clone()?, row.status.clone()?);
            let is_over = matches!(&*status, "done" | "cancelled") || replay.outcome().is_some();
            (!is_over).then_some(Finding::Replay { service, replay_id, status })
        }
        Content::Job(job) => {
            let (job_id, job_kind) = (job.id.clone(), job.kind.clone().unwrap_or_default());
            match &job.row {
                Some(row) if row.open.state.as_deref() == Some("failed") => {
                    Some(Finding::FailedJob { service, job_id, job_kind })
                }
                Some(_) => Some(Finding::Job { service, job_id, job_kind }),
                None => None,
            }
        }
        Content::Open(_) => None,
    }
}

fn of_delivery(node: &Node, service: String) -> Option<Finding> {
    let Content::Delivery(delivery) = &node.content else { return None };
    let group = delivery.group.clone();
    let event_type = delivery.event_type.clone().unwrap_or_default();
    if let Some(expected) = &delivery.expected {
        let behind = match expected.lag {
            Lag::Passed => return Some(Finding::Passed { service, group, event_type }),
            // The finding of the event covers this.
            Lag::Unpublished => return None,
            Lag::Behind(messages) => Some(messages),
            _ => None,
        };
        return Some(Finding::Expected { service, group, event_type, behind });
    }
    if delivery.is_settled() || delivery.has_letter {
        return None;
    }
    if let Some(row) = &delivery.parked {
        let failures = row.open.failures.unwrap_or_default();
        return Some(Finding::Retrying { service, group, failures });
    }
    let last = &delivery.steps.last()?.step;
    // Without a letter or a row, no attempt follows, except by the caller of the direct feed.
    if matches!(last.outcome.as_deref(), Some("dead-lettered" | "failed")) {
        return Some(Finding::FailedStep { service, what: format!("{group}: {event_type}") });
    }
    let failures = u64::try_from(last.attempts.len()).unwrap_or_default();
    let is_unfinished = last.outcome.is_none() && failures > 0;
    let retries = Finding::Retrying { service, group, failures };
    (last.error.is_some() || is_unfinished).then_some(retries)
}

/// Returns `true` if a later request of the same service and name succeeded, which is taken for the
/// repetition with the same `Idempotency-Key`.
fn was_repeated(node: &Node, nodes: &[&Node]) -> bool {
    let Some(failed) = request(node) else { return false };
    nodes.iter().any(|other| {
        let is_later = other.start.zip(node.start).is_some_and(|(other, it)| other > it);
        is_later
            && other.service == node.service
            && request(other).is_some_and(|it| {
                it.name == failed.name && it.status.is_some_and(|status| status < 400)
            })
    })
}

/// Returns the step of a request.
fn request(node: &Node) -> Option<&Step> {
    match &node.content {
        Content::Step(it) if it.step.kind == "request" => Some(&it.step),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::flow::testing::{at, flow, service};

    fn step(ms: i64, name: &str, status: u16) -> Value {
        json!({
            "kind": "request", "name": name, "correlation_id": "c-1", "started_at": at(ms).to_rfc3339(),
            "duration_us": 900, "status": status,
        })
    }

    #[test]
    fn a_request_has_failed_until_its_repetition_succeeds() {
        let state = |steps| flow(vec![service("order", steps)], &Lag::Passed).state();
        let failed = || step(0, "POST /orders", 503);
        assert_eq!(state(vec![failed(), step(9, "POST /orders", 201)]), State::Complete);
        for other in [
            step(9, "POST /orders", 503),
            step(9, "POST /orders", 429),
            step(9, "POST /refunds", 201),
            step(-9, "POST /orders", 201),
        ] {
            assert_eq!(state(vec![failed(), other.clone()]), State::Failed, "{other}");
        }
        let elsewhere = service("billing", vec![step(9, "POST /orders", 201)]);
        let both = flow(vec![service("order", vec![failed()]), elsewhere], &Lag::Passed);
        assert_eq!(both.state(), State::Failed);
    }
}
