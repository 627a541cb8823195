//! Readiness of a service.

use reqwest::Method;
use serde::Deserialize;

use super::{Client, HTTP, READ};
use crate::error::Error;

/// Readiness report of a service.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Readiness {
    /// `ready`, `degraded` or `unready`.
    pub(crate) status: String,
    /// `up`, or the reason why it is not.
    pub(crate) database: String,
    /// Why the service has not started, if known.
    pub(crate) starting: Option<String>,
    /// `true` while it shuts down.
    #[serde(default)]
    pub(crate) stopping: bool,
    /// `up`, `away`, or `unknown` until it was probed.
    pub(crate) kafka: String,
    /// Problems of the topics that the service owns.
    #[serde(default)]
    pub(crate) topics: Vec<String>,
}

impl Readiness {
    /// Returns `true` if everything works. A degraded service answers requests with restrictions.
    pub(crate) fn is_ready(&self) -> bool {
        self.status == "ready"
    }

    /// Returns `true` if the service answers requests.
    pub(crate) fn serves(&self) -> bool {
        self.status != "unready"
    }

    /// Returns the problems of the service, except those of Kafka and of subscriptions, which are
    /// shown separately.
    pub(crate) fn troubles(&self) -> Vec<String> {
        let starting = self.starting.clone();
        let database = format!("database {}", self.database);
        let database = (starting.is_none() && self.database != "up").then_some(database);
        let stopping = self.stopping.then(|| "it is shutting down".to_owned());
        let own = starting.into_iter().chain(stopping).chain(database);
        own.chain(self.topics.iter().cloned()).collect()
    }
}

impl Client {
    /// Returns the readiness of the service, also from a 503.
    pub(crate) async fn readiness(&self) -> Result<Readiness, Error> {
        let path = ["readyz"];
        let (status, text) = self
            .exchange(&Method::GET, &path, HTTP.get(self.resource(&path)).timeout(READ))
            .await?;
        serde_json::from_str(&text)
            .map_err(|_| self.not_understood(&Method::GET, &path, status, &text))
    }
}
