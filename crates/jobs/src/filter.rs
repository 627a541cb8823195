use serde::{Deserialize, Serialize};
use sqlx::{Postgres, QueryBuilder};
use time::OffsetDateTime;
use uuid::Uuid;

/// State of a job.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, sqlx::Type)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub enum State {
    /// Waits for its time, its retry or a free slot.
    Waiting,
    /// Leased by a worker.
    Running,
    /// Has used up its attempts or failed permanently, and waits for an operator.
    Failed,
}

/// Selects the jobs that match all given conditions.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// State.
    pub state: Option<State>,
    /// Kind.
    pub kind: Option<String>,
    /// Subject.
    pub subject: Option<String>,
    /// Time, UTC. Jobs that were enqueued or failed later do not match: an operator agrees to a
    /// change of the jobs that were shown.
    #[serde(with = "time::serde::rfc3339::option")]
    pub until: Option<OffsetDateTime>,
}

impl Filter {
    /// Adds the conditions to a statement on `job` that has one already.
    pub(crate) fn constrain(&self, query: &mut QueryBuilder<Postgres>) {
        query.push(match self.state {
            None => "",
            // As in the indexes' conditions.
            Some(State::Waiting) => " and failed_at is null and worker is null",
            Some(State::Running) => " and worker is not null",
            Some(State::Failed) => " and failed_at is not null",
        });
        if let Some(kind) = &self.kind {
            query.push(" and kind = ").push_bind(storable(kind));
        }
        if let Some(subject) = &self.subject {
            query.push(" and subject = ").push_bind(storable(subject));
        }
        if let Some(until) = self.until.map(pg::in_utc) {
            query.push(" and created_at <= ").push_bind(until);
            query.push(" and coalesce(failed_at <= ").push_bind(until).push(", true)");
        }
    }
}

/// Replaces NUL, which Postgres text can't contain, so that the filter matches nothing.
fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// Jobs selected by an operator.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Selection {
    /// Jobs with these ids.
    Ids(Vec<Uuid>),
    /// Jobs that match the filter.
    Filter(Filter),
}
