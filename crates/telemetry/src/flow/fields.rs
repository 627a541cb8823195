//! Maps the fields of a span to the members of its step.

use std::error::Error;
use std::fmt::Debug;

use tracing::field::{Field, Visit};

use super::draft::{Draft, cut};

/// Maximum length of an id, in bytes. Ids are validated where they are received.
const MAX_ID: usize = 1_024;

impl Visit for Draft {
    fn record_str(&mut self, field: &Field, text: &str) {
        if self.is_lost() {
            return;
        }
        let id = || Some(cut(text, MAX_ID).to_owned());
        match field.name() {
            "correlation_id" => self.correlation_id = id(),
            "event_id" => self.event_id = id(),
            "subject" | "cloudevents.event_subject" => self.subject = id(),
            "outcome" => self.outcome = id(),
            "error" => self.error = Some(text.to_owned()),
            "replay_id" => {
                self.set_kind("replay");
                self.add_text("replay_id", text);
            }
            "messaging.destination.partition.id" => {
                if let Ok(partition) = text.parse::<i32>() {
                    self.add("partition", partition);
                }
            }
            name => {
                if let Some(member) = member(name) {
                    self.add_text(member, text);
                }
            }
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        if self.is_lost() {
            return;
        }
        match field.name() {
            "messaging.kafka.offset" => self.add("offset", value),
            "job.attempt" => self.add("attempt", value),
            "http.response.status_code" => {
                self.add("status", value);
                // Deferred tasks hold the span until they begin.
                self.end();
            }
            _ => {}
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.record_i64(field, i64::try_from(value).unwrap_or(i64::MAX));
    }

    fn record_error(&mut self, field: &Field, error: &(dyn Error + 'static)) {
        if field.name() == "error" && !self.is_lost() {
            self.fail(error);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if !self.is_lost() && (member(field.name()).is_some() || field.name() == "error") {
            self.record_str(field, &format!("{value:?}"));
        }
    }
}

/// Returns the member for a text that is only displayed.
fn member(field: &str) -> Option<&'static str> {
    Some(match field {
        "otel.name" => "name",
        "cloudevents.event_type" => "event_type",
        "cloudevents.event_source" => "source",
        "messaging.destination.name" => "topic",
        "messaging.consumer.group.name" => "group",
        "task" => "task",
        "job.id" => "job_id",
        "job.kind" => "job_kind",
        "letter_id" => "letter_id",
        _ => return None,
    })
}
