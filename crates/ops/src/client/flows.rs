//! A service's part of a flow: recorded steps, and open work in its tables.

use serde::{Deserialize, Deserializer};

use super::{Answer, Client};
use crate::error::Error;

/// Maximum number of events to look up in the inbox per request.
pub(crate) const EVENTS: usize = 200;

/// A service's response. Members that another release does not have get their defaults.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct FlowPart {
    /// The service's clock, RFC 3339.
    #[serde(default)]
    pub(crate) now: String,
    /// `false` with `FLOW_STEPS=off`.
    #[serde(default = "default_true")]
    pub(crate) recording: bool,
    #[serde(default)]
    pub(crate) correlation_ids: Vec<String>,
    #[serde(default)]
    pub(crate) steps: Vec<Answer<Step>>,
    /// Whether the service has more steps than the response.
    #[serde(default)]
    pub(crate) truncated: bool,
    /// Number of steps that the answering instance has dropped since its start, of all flows.
    #[serde(default)]
    pub(crate) lost: u64,
    #[serde(default)]
    pub(crate) open: Vec<Answer<Open>>,
    #[serde(default)]
    pub(crate) inbox: Vec<InboxRow>,
    /// Parts that the service could not read, each with its reason.
    #[serde(default)]
    pub(crate) unavailable: Vec<String>,
}

fn default_true() -> bool {
    true
}

/// A finished step: a request, a task, a published or processed event, a run of a job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Step {
    pub(crate) kind: String,
    /// The display name of its span.
    pub(crate) name: Option<String>,
    pub(crate) correlation_id: Option<String>,
    pub(crate) started_at: Option<String>,
    pub(crate) duration_us: Option<u64>,
    pub(crate) trace_id: Option<String>,
    /// The chain of causes, if it failed.
    pub(crate) error: Option<String>,
    pub(crate) outcome: Option<String>,
    /// Failed attempts within the step.
    pub(crate) attempts: Vec<FailedAttempt>,
    pub(crate) event_id: Option<String>,
    pub(crate) event_type: Option<String>,
    pub(crate) subject: Option<String>,
    pub(crate) topic: Option<String>,
    pub(crate) partition: Option<i32>,
    pub(crate) offset: Option<i64>,
    pub(crate) group: Option<String>,
    /// Label of a deferred task.
    pub(crate) task: Option<String>,
    #[serde(deserialize_with = "text")]
    pub(crate) job_id: Option<String>,
    pub(crate) job_kind: Option<String>,
    /// Number of the job's attempt.
    pub(crate) attempt: Option<u32>,
    /// HTTP status of the response.
    pub(crate) status: Option<u16>,
    pub(crate) replay_id: Option<String>,
    pub(crate) letter_id: Option<String>,
}

/// A failed attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct FailedAttempt {
    pub(crate) attempt: Option<u32>,
    pub(crate) at: Option<String>,
    pub(crate) error: Option<String>,
}

/// Open work in the service's tables: waiting, or failed and waiting for an operator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Open {
    pub(crate) kind: String,
    pub(crate) event_id: Option<String>,
    pub(crate) event_type: Option<String>,
    pub(crate) topic: Option<String>,
    pub(crate) partition: Option<i32>,
    pub(crate) offset: Option<i64>,
    pub(crate) since: Option<String>,
    pub(crate) group: Option<String>,
    pub(crate) subject: Option<String>,
    /// Number of failed attempts.
    pub(crate) failures: Option<u64>,
    pub(crate) error: Option<String>,
    pub(crate) letter_id: Option<String>,
    pub(crate) status: Option<String>,
    pub(crate) outcome: Option<String>,
    pub(crate) reason: Option<String>,
    #[serde(deserialize_with = "text")]
    pub(crate) job_id: Option<String>,
    pub(crate) job_kind: Option<String>,
    pub(crate) state: Option<String>,
    pub(crate) attempts: Option<u64>,
    pub(crate) due_at: Option<String>,
    pub(crate) replay_id: Option<String>,
    pub(crate) rehearsal: bool,
    pub(crate) by: Option<String>,
    pub(crate) why: Option<String>,
}

/// A row of an inbox: the group has recorded the event as processed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct InboxRow {
    pub(crate) group: String,
    pub(crate) event_id: String,
    pub(crate) received_at: Option<String>,
}

/// Deserializes an id, which may be a text or a number.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Id {
        Text(String),
        Number(serde_json::Number),
    }
    Ok(Option::<Id>::deserialize(deserializer)?.map(|id| match id {
        Id::Text(text) => text,
        Id::Number(number) => number.to_string(),
    }))
}

impl Client {
    /// Returns the service's part of a flow, and the inbox rows of at most [`EVENTS`] events. `id`
    /// is a correlation id, a subject or an event id.
    pub(crate) async fn flow(&self, id: &str, events: &[String]) -> Result<FlowPart, Error> {
        let events = (!events.is_empty()).then(|| ("events", events.join(",")));
        self.get(&["flows", id], events.as_slice()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_release_does_not_know_is_read_over() {
        let part: FlowPart = serde_json::from_str(
            r#"{"now": "2026-11-26T01:30:00Z", "new": [1], "steps": [{"kind": "teleport", "speed": 3, "job_id": 7}],
                "open": [{"kind": "wormhole", "depth": {}}], "inbox": []}"#,
        )
        .unwrap();
        assert_eq!((part.recording, part.lost, part.steps[0].kind.as_str()), (true, 0, "teleport"));
        assert_eq!(part.steps[0].job_id.as_deref(), Some("7"));
        assert_eq!(part.steps[0].json["speed"], 3);
        assert_eq!(part.open[0].kind, "wormhole");
    }
}
