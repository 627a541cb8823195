//! A flow as JSON, for `--json`. Steps and rows are as sent by the services.

use serde_json::{Value, json};

use super::entry::{Content, Lag, OpenRow, Recorded};
use super::{Flow, Node, Service};

impl Flow {
    /// Returns the flow as JSON. The README documents the members.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "id": self.id,
            "state": self.state(),
            "correlation_ids": self.correlation_ids,
            "subjects": self.subjects,
            "started_at": self.start(),
            "duration_us": self.took(),
            "trace_ids": self.traces(),
            "our_clock_is_behind_us": self.our_clock_is_behind,
            "services": self.services.iter().map(Service::to_json).collect::<Vec<_>>(),
            "findings": self.findings(),
            "tree": self.roots.iter().map(Node::to_json).collect::<Vec<_>>(),
        })
    }
}

impl Service {
    fn to_json(&self) -> Value {
        json!({
            "service": self.name,
            "unreachable": self.unreachable,
            "unavailable": self.unavailable,
            "recording": self.is_recording,
            "truncated": self.is_truncated,
            "lost": self.lost,
            "clock_is_ahead_us": self.clock_is_ahead,
        })
    }
}

impl Node {
    fn to_json(&self) -> Value {
        let children: Vec<_> = self.children.iter().map(Self::to_json).collect();
        let mut node = json!({
            "service": self.service,
            "started_at": self.start,
            "ended_at": self.end,
            "kind": self.content.kind(),
            "steps": self.content.steps().into_iter().map(recorded).collect::<Vec<_>>(),
            "open": self.content.rows().into_iter().map(held).collect::<Vec<_>>(),
            "children": children,
        });
        match &self.content {
            Content::Event(event) => {
                node["event_id"] = json!(event.id);
                node["event_type"] = json!(event.kind);
            }
            Content::Delivery(delivery) => {
                node["event_id"] = json!(delivery.event_id);
                node["event_type"] = json!(delivery.event_type);
                node["group"] = json!(delivery.group);
                node["in_inbox"] = json!(delivery.inbox.is_some());
                if let Some(expected) = &delivery.expected {
                    node["expected"] = lag(&expected.lag);
                    node["expected"]["subscription"] = json!(expected.state);
                }
            }
            Content::Job(job) => {
                node["job_id"] = json!(job.id);
                node["job_kind"] = json!(job.kind);
            }
            Content::Replay(replay) => node["rehearsal"] = json!(replay.is_rehearsal()),
            Content::Step(_) | Content::Letter(_) | Content::Open(_) => {}
        }
        node
    }
}

impl Content {
    fn kind(&self) -> &'static str {
        match self {
            Self::Step(_) => "step",
            Self::Event(_) => "event",
            Self::Delivery(_) => "delivery",
            Self::Letter(_) => "dead letter",
            Self::Replay(_) => "replay",
            Self::Job(_) => "job",
            Self::Open(_) => "open",
        }
    }
}

fn recorded(step: &Recorded) -> &Value {
    &step.step.json
}

fn held(row: &OpenRow) -> &Value {
    &row.open.json
}

fn lag(lag: &Lag) -> Value {
    match lag {
        Lag::Unpublished => json!({ "lag": "unpublished" }),
        Lag::Behind(messages) => json!({ "lag": "behind", "messages": messages }),
        Lag::Passed => json!({ "lag": "passed" }),
        Lag::NothingCommitted => json!({ "lag": "nothing committed" }),
        Lag::Unknown(why) => json!({ "lag": "unknown", "why": why }),
    }
}
