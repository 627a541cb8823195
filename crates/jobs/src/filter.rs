use serde::{Deserialize, Serialize};
use sqlx::{Postgres, QueryBuilder};
use uuid::Uuid;

/// Where a job stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, sqlx::Type)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub enum State {
    /// Waits for its time, its retry or a free place.
    Waiting,
    /// A worker has it, or had it and died less than a lease ago.
    Running,
    /// Has failed for good and waits for an operator.
    Failed,
}

/// Conditions that a job must meet, all that are given.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// Where it stands.
    pub state: Option<State>,
    /// Its kind.
    pub kind: Option<String>,
    /// What it is about.
    pub subject: Option<String>,
}

impl Filter {
    /// Adds the conditions to a statement on `job` that has one already.
    pub(crate) fn constrain(&self, query: &mut QueryBuilder<Postgres>) {
        query.push(match self.state {
            None => "",
            // As the indexes have it.
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
    }
}

/// Replaces NUL, which Postgres takes in no text: no stored text has it, nor the replacement in its place.
fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// The jobs that an operator wants to change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Selection {
    /// Exactly these.
    Ids(Vec<Uuid>),
    /// Those that meet the filter.
    Filter(Filter),
}
