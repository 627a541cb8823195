use humantime::format_rfc3339_seconds;

use crate::alerts::Active;
use crate::console::address::escaped;

/// A firing alert.
pub(super) struct AlertRow {
    pub(super) name: &'static str,
    pub(super) summary: String,
    pub(super) what_to_do: String,
    pub(super) since: String,
    /// Address and title of the page about it.
    pub(super) place: Option<(String, &'static str)>,
}

impl AlertRow {
    pub(super) fn of(active: &Active) -> Self {
        let condition = &active.condition;
        Self {
            name: condition.rule.name,
            summary: condition.summary.clone(),
            what_to_do: condition.what_to_do(),
            since: format_rfc3339_seconds(active.since).to_string(),
            place: place(active),
        }
    }
}

fn place(active: &Active) -> Option<(String, &'static str)> {
    let subject = &active.condition.subject;
    match active.condition.rule.name {
        "LagHigh" | "LagSeconds" | "Stalled" | "NearRetention" | "MessagesLost" | "LagUnknown" => {
            Some(("/lag".to_owned(), "Lag"))
        }
        "DeadLettersArriving" | "NewFailureReason" => {
            Some((format!("/failures?group={}", escaped(&subject.group)), "Failures"))
        }
        "JobsFailed" => {
            Some((format!("/jobs?state=failed&kind={}", escaped(&subject.kind)), "Jobs"))
        }
        _ => None,
    }
}
