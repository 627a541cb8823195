//! Subscriptions and their instances.

use std::iter;

use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Client, Listed, Listing};
use crate::error::Error;

/// A subscription of a service.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Subscription {
    #[serde(default)]
    pub(crate) service: String,
    pub(crate) group: String,
    /// State of the instance that answered.
    pub(crate) state: String,
    /// The topics, without the prefix of their names.
    #[serde(default)]
    pub(crate) topics: Vec<String>,
    /// The event types that it handles.
    #[serde(default)]
    pub(crate) event_types: Vec<String>,
    pub(crate) paused: Option<Pause>,
    #[serde(default)]
    pub(crate) breakers: Vec<Breaker>,
    #[serde(default)]
    pub(crate) instances: Vec<Instance>,
}

/// The state of a healthy subscription or instance.
const RUNNING: &str = "running";

impl Subscription {
    /// Returns the state of an instance that has stopped consuming. If there is none, and no
    /// instance is running either, returns the state of the instance that answered. Returns `None`
    /// otherwise: beside a running instance, others may be gone or only serve their API.
    pub(crate) fn trouble(&self) -> Option<&str> {
        let instances = self.instances.iter().map(|it| &*it.state);
        let states: Vec<&str> = iter::once(&*self.state).chain(instances).collect();
        let stopped = states.iter().find(|it| **it != RUNNING && !is_absent(it));
        let first = || states.first().filter(|_| !states.contains(&RUNNING));
        stopped.or_else(first).copied()
    }

    /// Returns the open breakers.
    pub(crate) fn open_breakers(&self) -> impl Iterator<Item = &Breaker> {
        self.breakers.iter().filter(|breaker| breaker.opened_at.is_some())
    }
}

/// Returns `true` for the state of an instance that is gone, or that only serves its API.
fn is_absent(state: &str) -> bool {
    state.starts_with("gone") || state.starts_with("off")
}

/// An operator's pause.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Pause {
    pub(crate) by: String,
    pub(crate) why: String,
    pub(crate) since: String,
}

/// A circuit breaker of a subscription.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Breaker {
    pub(crate) event_type: String,
    pub(crate) reason: String,
    /// Number of messages that became dead letters.
    pub(crate) letters: u64,
    /// `None` while the breaker is closed and only counts.
    pub(crate) opened_at: Option<String>,
}

/// An instance of a subscription.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Instance {
    pub(crate) id: String,
    pub(crate) state: String,
    pub(crate) seen_at: String,
}

impl Listed for Subscription {
    const PLURAL: &'static str = "subscriptions";
    const NAMES_SERVICE: bool = true;

    fn at(&self) -> &'static str {
        "" // Subscriptions are not sorted by time.
    }
}

impl Client {
    /// Lists the subscriptions of the service.
    pub(crate) fn subscription_list(&self) -> Listing<Subscription> {
        Listing::new(self.clone(), "subscriptions".into(), Vec::new()).unpaged()
    }

    /// Returns the subscriptions of the service.
    pub(crate) async fn subscriptions(&self) -> Result<Vec<Answer<Subscription>>, Error> {
        self.subscription_list().page().await.map(|(subscriptions, _)| subscriptions)
    }

    /// Pauses, resumes or drops a subscription. `act` is the name in the API.
    pub(crate) async fn change_subscription(
        &self,
        group: &str,
        act: &str,
        why: &str,
    ) -> Result<Value, Error> {
        self.change(Method::POST, &["subscriptions", group, act], &json!({ "why": why })).await
    }
}
