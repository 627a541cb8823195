//! Client for the services' admin API, with typed requests and responses.

mod acts;
mod answer;
mod filter;
mod flows;
mod jobs;
mod letters;
mod listing;
mod metrics;
mod operator;
mod outbox;
mod readiness;
mod replays;
mod subscriptions;

pub(crate) use acts::Act;
pub(crate) use answer::Answer;
pub(crate) use filter::{Filter, Selection, Status};
pub(crate) use flows::{EVENTS, FlowPart, InboxRow, Open, Step};
pub(crate) use jobs::{Job, JobDetails, JobFilter, JobSelection, JobState};
pub(crate) use letters::{Attempt, Bytes, Letter, LetterGroup, Summary};
pub(crate) use listing::{Listed, Listing, Merged, Order};
pub(crate) use metrics::{Metrics, Sample};
pub(crate) use outbox::{OUTBOX_AGE, OUTBOX_DEPTH, Outbox};
pub(crate) use readiness::Readiness;
pub(crate) use replays::{NewReplay, Outcomes, Replay, ReplayDetails, ReplayedLetter};
pub(crate) use subscriptions::Subscription;

use std::sync::LazyLock;
use std::time::Duration;

use reqwest::{Method, RequestBuilder, Url};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Error;

/// Time limit of a read, unless a client has another one.
const READ: Duration = Duration::from_secs(10);
/// Time limit of a change, for example of 100,000 letters selected by a filter.
pub(crate) const CHANGE: Duration = Duration::from_mins(5);
/// Maximum length of an unexpected response that an error quotes.
const SHOWN: usize = 300;

static HTTP: LazyLock<reqwest::Client> = LazyLock::new(|| {
    // Without a proxy, because admin ports are not published beyond the operator's network.
    reqwest::Client::builder().no_proxy().build().unwrap_or_default()
});

/// A client of one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Client {
    /// The service's name, for messages.
    pub(crate) service: String,
    /// The URL of its admin port.
    pub(crate) url: Url,
    token: Token,
    /// Time limit of a read.
    within: Duration,
}

/// An operator's token, which is never printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Token(pub(crate) String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

#[derive(Deserialize)]
struct Problem {
    detail: String,
}

impl Client {
    pub(crate) fn new(service: impl Into<String>, url: Url, token: Token) -> Self {
        Self { service: service.into(), url, token, within: READ }
    }

    /// Returns a client of the same service with another token.
    pub(crate) fn acting_with(&self, token: Token) -> Self {
        Self { token, ..self.clone() }
    }

    /// Returns a client of the same service with another time limit of a read.
    pub(crate) fn within(self, within: Duration) -> Self {
        Self { within, ..self }
    }

    /// Reads a resource.
    async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&'static str, String)],
    ) -> Result<T, Error> {
        let mut url = self.resource(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        self.send(Method::GET, path, HTTP.get(url).timeout(self.within)).await
    }

    /// Reads a resource, and adds the name of the service to it.
    async fn get_named<T: DeserializeOwned>(&self, path: &[&str]) -> Result<Answer<T>, Error> {
        let mut json: Value = self.get(path, &[]).await?;
        listing::name_service(&mut json, &self.service);
        serde_json::from_value(json)
            .map_err(|error| self.not_understood(&Method::GET, path, 200, &error.to_string()))
    }

    /// Changes a resource.
    async fn change<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        body: &impl Serialize,
    ) -> Result<T, Error> {
        let request = HTTP.request(method.clone(), self.resource(path)).timeout(CHANGE);
        self.send(method, path, request.json(body)).await
    }

    fn resource(&self, path: &[&str]) -> Url {
        let mut url = self.url.clone();
        // Every URL here has path segments, because `services` accepts no other.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url
    }

    async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        request: RequestBuilder,
    ) -> Result<T, Error> {
        let (status, text) = self.exchange(&method, path, request).await?;
        if (200..300).contains(&status)
            && let Ok(body) = serde_json::from_str(&text)
        {
            return Ok(body);
        }
        if status >= 400
            && let Ok(Problem { detail }) = serde_json::from_str(&text)
        {
            return Err(Error::Problem { service: self.service.clone(), status, detail });
        }
        Err(self.not_understood(&method, path, status, &text))
    }

    /// Sends a request. Returns the status and the body.
    async fn exchange(
        &self,
        method: &Method,
        path: &[&str],
        request: RequestBuilder,
    ) -> Result<(u16, String), Error> {
        let request = match &*self.token.0 {
            "" => request,
            token => request.bearer_auth(token),
        };
        let answered = async {
            let answer = request.send().await?;
            Ok((answer.status().as_u16(), answer.text().await?))
        };
        answered.await.map_err(|source| Error::Unreachable {
            service: self.service.clone(),
            request: named(method, path),
            source,
        })
    }

    /// Returns the error for a response that is not one of the admin API.
    fn not_understood(&self, method: &Method, path: &[&str], status: u16, text: &str) -> Error {
        let answer = text[..text.floor_char_boundary(SHOWN)].to_owned();
        Error::Answer {
            service: self.service.clone(),
            request: named(method, path),
            status,
            answer,
        }
    }
}

fn named(method: &Method, path: &[&str]) -> String {
    format!("{method} /{}", path.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_in_paths_and_a_base_path_stays() {
        let url = "http://gateway/billing/".parse().unwrap();
        let client = Client::new("billing", url, Token("secret".into()));
        let url = client.resource(&["subscriptions", "a/../b?", "pause"]);
        assert_eq!(url.as_str(), "http://gateway/billing/subscriptions/a%2F..%2Fb%3F/pause");
        assert!(!format!("{client:?}").contains("secret"));
    }
}
