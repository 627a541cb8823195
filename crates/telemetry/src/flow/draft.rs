use std::collections::VecDeque;
use std::error::Error;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;

use super::steps::{Buffer, FlowStep};
use crate::error_chain;

/// Maximum length of a text and of a chain of causes, in bytes.
const MAX_TEXT: usize = 512;
const MAX_ERROR: usize = 2_000;
/// Maximum number of failed attempts that are kept; the first ones are dropped.
const MAX_ATTEMPTS: usize = 20;
/// Bytes of the members of most steps, so that they are not moved while they grow.
const USUAL_MEMBERS: usize = 640;

/// A step that has not ended.
#[derive(Debug)]
pub(super) struct Draft {
    buffer: Arc<Buffer>,
    /// `true` if there was no room at its beginning; then it records no texts.
    is_lost: bool,
    kind: &'static str,
    started_at: SystemTime,
    began: Instant,
    /// Its duration, if it ended before its span closes.
    took: Option<Duration>,
    pub(super) correlation_id: Option<String>,
    pub(super) event_id: Option<String>,
    pub(super) subject: Option<String>,
    pub(super) outcome: Option<String>,
    pub(super) error: Option<String>,
    attempts: VecDeque<FailedAttempt>,
    /// Further members of the JSON object, each followed by a comma.
    members: Vec<u8>,
}

#[derive(Debug, Serialize)]
struct FailedAttempt {
    attempt: u32,
    at_us: u64,
    error: String,
}

impl Draft {
    /// Begins a step. `name` is the name of its span in the code, or its kind.
    pub(super) fn new(buffer: Arc<Buffer>, name: &'static str) -> Self {
        let kind = if name == "run" { "job" } else { name };
        let is_lost = !buffer.has_room();
        Self {
            buffer,
            is_lost,
            kind,
            started_at: SystemTime::now(),
            began: Instant::now(),
            took: None,
            correlation_id: None,
            event_id: None,
            subject: None,
            outcome: None,
            error: None,
            attempts: VecDeque::new(),
            members: Vec::with_capacity(if is_lost { 0 } else { USUAL_MEMBERS }),
        }
    }

    /// Begins the step of a span that follows this step's span: a deferred task of the same flow.
    pub(super) fn followed_by(&self, span: &'static str) -> Self {
        let mut follower = Self::new(Arc::clone(&self.buffer), span);
        if !follower.is_lost {
            follower.correlation_id.clone_from(&self.correlation_id);
        }
        follower
    }

    /// Returns `true` if the step is already lost, so that no fields need to be recorded.
    pub(super) fn is_lost(&self) -> bool {
        self.is_lost
    }

    pub(super) fn set_kind(&mut self, kind: &'static str) {
        self.kind = kind;
    }

    /// Records how long the step's event waited in the outbox. Most members of a step of its own
    /// would be the same as this one's.
    pub(super) fn add_outbox_wait(&mut self, from: SystemTime, until: SystemTime) {
        let took = until.duration_since(from).unwrap_or_default().as_micros();
        let wait = format_args!("{{\"at_us\":{},\"duration_us\":{took}}}", micros_since_1970(from));
        // Writing to a vector does not fail.
        let _ = write!(self.members, "\"outbox_wait\":{wait},");
    }

    /// Records the end of the step; its span may stay open.
    pub(super) fn end(&mut self) {
        self.took = Some(self.began.elapsed());
    }

    pub(super) fn add(&mut self, name: &str, value: impl Serialize) {
        let before = self.members.len();
        self.members.push(b'"');
        self.members.extend_from_slice(name.as_bytes());
        self.members.extend_from_slice(b"\":");
        match serde_json::to_writer(&mut self.members, &value) {
            Ok(()) => self.members.push(b','),
            Err(_) => self.members.truncate(before),
        }
    }

    pub(super) fn add_text(&mut self, name: &str, text: &str) {
        self.add(name, cut(text, MAX_TEXT));
    }

    pub(super) fn fail(&mut self, error: &(dyn Error + 'static)) {
        self.error = Some(chain(error));
    }

    /// Records a failed attempt of the step, which may still succeed.
    pub(super) fn note_failed_attempt(&mut self, attempt: u32, error: &(dyn Error + 'static)) {
        if self.is_lost {
            return;
        }
        if self.attempts.len() == MAX_ATTEMPTS {
            self.attempts.pop_front();
        }
        let at_us = micros_since_1970(SystemTime::now());
        self.attempts.push_back(FailedAttempt { attempt, at_us, error: chain(error) });
    }

    /// Ends the step and stores it, unless its flow is unknown, or it is a message that was ignored
    /// or left to another instance.
    pub(super) fn finish(mut self, trace_id: Option<&str>) {
        if self.is_lost {
            return self.buffer.lose(1);
        }
        let is_message = matches!(self.kind, "process" | "replay");
        if is_message && self.outcome.is_none() && self.attempts.is_empty() {
            return;
        }
        let Some(correlation_id) = self.correlation_id.take() else { return };
        if let Some(id) = trace_id {
            self.add("trace_id", id);
        }
        self.add_ending();
        let json = self.json();
        let Self { buffer, event_id, subject, .. } = self;
        buffer.push(FlowStep { correlation_id, event_id, subject, json });
    }

    fn add_ending(&mut self) {
        for (name, text) in [("event_id", self.event_id.take()), ("subject", self.subject.take())] {
            if let Some(text) = text {
                self.add(name, &text);
                // They are keys of the step, too.
                match name {
                    "event_id" => self.event_id = Some(text),
                    _ => self.subject = Some(text),
                }
            }
        }
        if let Some(outcome) = self.outcome.take() {
            self.add_text("outcome", &outcome);
        }
        if let Some(error) = self.error.take() {
            self.add("error", cut(&error, MAX_ERROR));
        }
        if !self.attempts.is_empty() {
            let attempts = std::mem::take(&mut self.attempts);
            self.add("attempts", &attempts);
        }
    }

    fn json(&mut self) -> String {
        let took = self.took.unwrap_or_else(|| self.began.elapsed());
        let mut json = String::with_capacity(self.members.len() + 96);
        // Writing to a string does not fail.
        let _ = write!(
            json,
            "{{\"kind\":\"{}\",\"at_us\":{},\"duration_us\":{}",
            self.kind,
            micros_since_1970(self.started_at),
            took.as_micros()
        );
        let members = std::mem::take(&mut self.members);
        if let Some(members) = members.strip_suffix(b",") {
            json.push(',');
            json.push_str(std::str::from_utf8(members).unwrap_or_default());
        }
        json.push('}');
        json
    }
}

fn micros_since_1970(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

fn chain(error: &(dyn Error + 'static)) -> String {
    cut(&error_chain(error), MAX_ERROR).to_owned()
}

pub(super) fn cut(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}
