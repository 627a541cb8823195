//! Readiness of a service.

use reqwest::Method;
use serde::Deserialize;

use super::{Client, HTTP, READ};
use crate::error::Error;

/// What a service says of itself.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Readiness {
    /// `ready`, `degraded` or `unready`.
    pub(crate) status: String,
    /// `up`, or why it is not.
    pub(crate) database: String,
    /// Why the service has not started, if that is known.
    pub(crate) starting: Option<String>,
    /// `up`, `away`, or `unknown` until it was probed.
    pub(crate) kafka: String,
    /// What is wrong with the topics that the service owns.
    #[serde(default)]
    pub(crate) topics: Vec<String>,
}

impl Readiness {
    /// Returns `true` if all of it works. One that is degraded serves, but not all works.
    pub(crate) fn is_ready(&self) -> bool {
        self.status == "ready"
    }

    /// Returns `true` if it serves its callers.
    pub(crate) fn serves(&self) -> bool {
        self.status != "unready"
    }

    /// Returns what is wrong with the service, but for Kafka and its subscriptions: those have their own places.
    pub(crate) fn troubles(&self) -> Vec<String> {
        let starting = self.starting.clone();
        let database = format!("database {}", self.database);
        let database = (starting.is_none() && self.database != "up").then_some(database);
        starting.into_iter().chain(database).chain(self.topics.iter().cloned()).collect()
    }
}

impl Client {
    /// Asks whether the service is ready. One that is not answers with 503 and says why.
    pub(crate) async fn readiness(&self) -> Result<Readiness, Error> {
        let path = ["readyz"];
        let (status, text) = self
            .exchange(&Method::GET, &path, HTTP.get(self.resource(&path)).timeout(READ))
            .await?;
        serde_json::from_str(&text)
            .map_err(|_| self.not_understood(&Method::GET, &path, status, &text))
    }
}
