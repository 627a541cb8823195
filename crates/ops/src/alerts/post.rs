//! The body of an alert's POST.

use serde_json::{Value, json};

use super::tracker::{Active, AlertChange};

impl AlertChange {
    /// Returns `firing` or `resolved`, and the alert.
    pub(crate) fn parts(&self) -> (&'static str, &Active) {
        match self {
            Self::Firing(active) => ("firing", active),
            Self::Resolved(active) => ("resolved", active),
        }
    }

    /// Returns the JSON body. `group`, `service` and `kind` are present if the alert concerns one.
    pub(super) fn body(&self) -> Value {
        let (status, Active { condition, since }) = self.parts();
        let rule = condition.rule;
        let mut body = json!({
            "alert": rule.name,
            "status": status,
            "value": condition.value,
            "threshold": rule.threshold,
            "since": humantime::format_rfc3339_seconds(*since).to_string(),
            "summary": condition.summary,
            "what_to_do": condition.what_to_do(),
        });
        let subject = &condition.subject;
        let parts =
            [("service", &subject.service), ("group", &subject.group), ("kind", &subject.kind)];
        for (name, value) in parts.into_iter().filter(|(_, value)| !value.is_empty()) {
            body[name] = json!(value);
        }
        body
    }
}
