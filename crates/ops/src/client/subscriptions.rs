//! Subscriptions and their instances.

use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Client;
use crate::error::Error;

/// A subscription of a service.
#[derive(Deserialize)]
pub(crate) struct Subscription {
    pub(crate) group: String,
    /// Of the instance that answered.
    pub(crate) state: String,
    /// Names without the prefix.
    #[serde(default)]
    pub(crate) topics: Vec<String>,
    pub(crate) instances: Vec<Instance>,
    /// The types that it handles.
    #[serde(default)]
    pub(crate) event_types: Vec<String>,
}

/// An instance of a subscription.
#[derive(Deserialize)]
pub(crate) struct Instance {
    pub(crate) id: String,
    pub(crate) state: String,
    /// RFC 3339, UTC.
    pub(crate) seen_at: String,
}

#[derive(Deserialize)]
struct Subscriptions {
    subscriptions: Vec<Subscription>,
}

impl Client {
    /// Returns the subscriptions of the service.
    pub(crate) async fn subscriptions(&self) -> Result<Vec<Subscription>, Error> {
        let answer: Subscriptions = self.get(&["subscriptions"], &[]).await?;
        Ok(answer.subscriptions)
    }

    /// Pauses, resumes or drops a subscription; `act` is the API's word. Returns the answer.
    pub(crate) async fn change_subscription(
        &self,
        group: &str,
        act: &str,
        why: &str,
    ) -> Result<Value, Error> {
        self.change(Method::POST, &["subscriptions", group, act], &json!({ "why": why })).await
    }
}
