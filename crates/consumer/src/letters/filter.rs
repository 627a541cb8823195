use serde::{Deserialize, Serialize};
use sqlx::{Postgres, QueryBuilder};
use time::OffsetDateTime;
use uuid::Uuid;

/// Status of a letter.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LetterStatus {
    /// The letter waits for an operator.
    Dead,
    /// The letter is part of a replay that has not ended.
    Replaying,
    /// A replay processed the letter.
    Resolved,
    /// Replays failed `max_replays` times, so only `force` replays the letter.
    Parked,
    /// An operator has discarded the letter.
    Discarded,
}

impl LetterStatus {
    /// Returns its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dead => "dead",
            Self::Replaying => "replaying",
            Self::Resolved => "resolved",
            Self::Parked => "parked",
            Self::Discarded => "discarded",
        }
    }
}

/// Selects the letters that match all given conditions.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LetterFilter {
    /// Status.
    pub status: Option<LetterStatus>,
    /// Type of the event.
    #[serde(rename = "type")]
    pub event_type: Option<String>,
    /// A part of the reason; case is ignored.
    pub reason: Option<String>,
    /// Kind of failure.
    pub fingerprint: Option<String>,
    /// Tenant of the event.
    pub tenant: Option<String>,
    /// Subject of the event.
    pub subject: Option<String>,
    /// Correlation id of the event.
    pub correlation_id: Option<String>,
    /// Id of the event.
    pub event_id: Option<String>,
    /// Earliest time of death, UTC.
    #[serde(with = "time::serde::rfc3339::option")]
    pub from: Option<OffsetDateTime>,
    /// Time of death is before this, UTC.
    #[serde(with = "time::serde::rfc3339::option")]
    pub to: Option<OffsetDateTime>,
}

impl LetterFilter {
    /// Adds conditions to a statement on `dead_letter` that has one already.
    pub(super) fn constrain(&self, query: &mut QueryBuilder<Postgres>) {
        if let Some(status) = self.status {
            query.push(" and status = ").push_bind(status.as_str());
        }
        let equal = [
            ("event_type", &self.event_type),
            ("fingerprint", &self.fingerprint),
            ("tenant", &self.tenant),
            ("subject", &self.subject),
            ("correlation_id", &self.correlation_id),
            ("event_id", &self.event_id),
        ];
        for (column, value) in equal {
            if let Some(value) = value {
                query.push(format!(" and {column} = ")).push_bind(storable(value));
            }
        }
        if let Some(reason) = &self.reason {
            query
                .push(" and position(lower(")
                .push_bind(storable(reason))
                .push(") in lower(reason)) > 0");
        }
        if let Some(from) = self.from {
            query.push(" and died_at >= ").push_bind(pg::in_utc(from));
        }
        if let Some(to) = self.to {
            query.push(" and died_at < ").push_bind(pg::in_utc(to));
        }
    }
}

/// Postgres text can't contain NUL, so a text with NUL matches nothing.
fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// Selected letters of a group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Selection {
    /// Letters with these ids.
    Ids(Vec<Uuid>),
    /// Letters that match a filter.
    Filter(LetterFilter),
}

impl Selection {
    /// Adds conditions to a statement on `dead_letter` that has one already.
    pub(super) fn constrain(&self, query: &mut QueryBuilder<Postgres>) {
        match self {
            Self::Ids(ids) => _ = query.push(" and id = any(").push_bind(ids).push(")"),
            Self::Filter(filter) => filter.constrain(query),
        }
    }
}
