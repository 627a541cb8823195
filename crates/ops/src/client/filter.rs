use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use crate::moment;

/// Conditions of dead letters; all that are given must hold. The names are those of the API's
/// query.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Filter {
    /// The status of the letters
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<Status>,
    /// The event type, such as order.completed
    #[arg(long = "type", value_name = "TYPE")]
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub(crate) event_type: Option<String>,
    /// A part of the reason, in any case
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// The fingerprint that `dlq groups` shows
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fingerprint: Option<String>,
    /// The tenant
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tenant: Option<String>,
    /// The subject, such as an order id
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) subject: Option<String>,
    /// The correlation id
    #[arg(long, value_name = "ID")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) correlation_id: Option<String>,
    /// The event id
    #[arg(long, value_name = "ID")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) event_id: Option<String>,
    /// Died at this time or later, as 2026-11-25T10:00:00Z
    #[arg(long, value_name = "TIME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<String>,
    /// Died before this time
    #[arg(long, value_name = "TIME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) to: Option<String>,
}

/// Status of a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    /// Waits for an operator
    Dead,
    /// Is part of a replay that has not ended
    Replaying,
    /// Was replayed, or needs no replay any more
    Resolved,
    /// Failed too many replays; replayed only with --force
    Parked,
    /// Will not be replayed, by an operator's decision
    Discarded,
}

impl Status {
    /// Returns the name that the API uses.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Dead => "dead",
            Self::Replaying => "replaying",
            Self::Resolved => "resolved",
            Self::Parked => "parked",
            Self::Discarded => "discarded",
        }
    }
}

impl Filter {
    /// Returns the conditions as a query.
    pub(crate) fn query(&self) -> Vec<(&'static str, String)> {
        let conditions = [
            ("status", self.status.map(|status| status.as_str().to_owned())),
            ("type", self.event_type.clone()),
            ("reason", self.reason.clone()),
            ("fingerprint", self.fingerprint.clone()),
            ("tenant", self.tenant.clone()),
            ("subject", self.subject.clone()),
            ("correlation_id", self.correlation_id.clone()),
            ("event_id", self.event_id.clone()),
            ("from", self.from.clone()),
            ("to", self.to.clone()),
        ];
        conditions.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }

    /// Returns `true` if there are no conditions.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds the condition that a letter died before a time (RFC 3339).
    pub(crate) fn before(self, time: &str) -> Self {
        let own = self.to.filter(|own| moment::parse(own) < moment::parse(time));
        Self { to: own.or_else(|| Some(time.to_owned())), ..self }
    }

    /// Adds the condition that a letter died no later than the newest of those that were shown.
    /// Letters that die while the operator reads are not part of what is agreed to.
    pub(crate) fn shown(self, newest: Option<OffsetDateTime>) -> Self {
        // The services' times have microseconds.
        let after = newest.map(|it| it + Duration::from_micros(1));
        match after.and_then(|it| it.format(&Rfc3339).ok()) {
            Some(time) => self.before(&time),
            None => self,
        }
    }
}

/// The letters to change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Selection {
    /// These letters.
    Ids(Vec<Uuid>),
    /// The letters that match the filter when the service evaluates it.
    Filter(Filter),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_and_the_body_have_the_same_names() {
        let text = || Some("x".to_owned());
        let filter = Filter {
            status: Some(Status::Parked),
            event_type: text(),
            reason: text(),
            fingerprint: text(),
            tenant: text(),
            subject: text(),
            correlation_id: text(),
            event_id: text(),
            from: text(),
            to: text(),
        };
        let body = serde_json::to_value(&filter).unwrap();
        let query = filter.query().into_iter();
        let query = query.map(|(name, value)| (name.to_owned(), value.into())).collect();
        assert_eq!(body, serde_json::Value::Object(query));
        let body = serde_json::to_string(&Selection::Filter(Filter::default())).unwrap();
        assert_eq!(body, r#"{"filter":{}}"#);
    }

    #[test]
    fn a_letter_that_dies_after_those_that_were_shown_is_not_selected() {
        let to = |filter: Filter| filter.to.unwrap();
        let newest = moment::parse("2026-11-25T10:00:00.123456Z");
        let shown = || Filter::default().shown(newest);
        assert_eq!(to(shown()), "2026-11-25T10:00:00.123457Z");
        assert_eq!(to(shown().before("2026-11-25T09:00:00Z")), "2026-11-25T09:00:00Z");
        assert_eq!(to(shown().before("2026-11-25T11:00:00Z")), "2026-11-25T10:00:00.123457Z");
        assert_eq!(Filter::default().shown(None), Filter::default());
    }
}
