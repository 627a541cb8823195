//! Durable jobs: list, details, retry and discard.

mod all;
mod change;
mod details;
mod list;

use axum::Router;
use axum::routing::{get, post};

use super::Console;
use crate::client::{JobFilter, JobState};
use crate::console::Fields;
use crate::console::address::address;
use crate::error::Error;

const HERE: &str = "/jobs";

pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route(HERE, get(list::show))
        .route("/jobs/all/{act}", get(all::show).post(all::change))
        .route("/jobs/selected/{act}", post(change::selected))
        .route("/jobs/{service}/{id}", get(details::show))
}

/// The filter in the address of the page, with the names of the API's query.
#[derive(Clone, Default)]
struct JobQuery {
    service: Option<String>,
    filter: JobFilter,
}

impl JobQuery {
    /// Fails if the state is unknown.
    fn of(fields: &Fields) -> Result<Self, Error> {
        let text = |name| fields.one(name).map(ToOwned::to_owned);
        let state = match fields.one("state") {
            None => None,
            Some("failed") => Some(JobState::Failed),
            Some("waiting") => Some(JobState::Waiting),
            Some("running") => Some(JobState::Running),
            Some(other) => {
                let message = format!("state: {other} is none of failed, waiting and running");
                return Err(Error::Refused(message));
            }
        };
        let (kind, subject, until) = (text("kind"), text("subject"), text("until"));
        let filter = JobFilter { kind, state, subject, until };
        Ok(Self { service: text("service"), filter })
    }

    /// Returns the query of an address.
    fn to_query(&self) -> Vec<(&'static str, String)> {
        let state = self.filter.state.map(|it| it.as_str().to_owned());
        let all = [
            ("service", self.service.clone()),
            ("state", state),
            ("kind", self.filter.kind.clone()),
            ("subject", self.filter.subject.clone()),
            ("until", self.filter.until.clone()),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }

    /// Returns the address of a page. `None` means the first page.
    fn at(&self, cursor: Option<&str>) -> String {
        let cursor = cursor.map(|it| ("cursor", it.to_owned()));
        let all: Vec<_> = self.to_query().into_iter().chain(cursor).collect();
        address(HERE, &all)
    }

    fn has(&self, name: &str, value: &str) -> bool {
        self.to_query().iter().any(|(known, is)| *known == name && is == value)
    }

    fn value(&self, name: &str) -> String {
        let query = self.to_query().into_iter();
        query.filter(|(known, _)| *known == name).map(|(_, value)| value).next().unwrap_or_default()
    }
}
