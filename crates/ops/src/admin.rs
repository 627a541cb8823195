//! A client of the services' admin ports.

use std::{sync::LazyLock, time::Duration};

use reqwest::{Client, RequestBuilder, StatusCode};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::error::Error;

static CLIENT: LazyLock<Client> = LazyLock::new(|| {
    // Never through a proxy: admin ports are not published beyond the operator's network.
    let client = Client::builder().no_proxy().timeout(Duration::from_secs(10));
    client.build().unwrap_or_default()
});

/// The outcome of one replay.
#[derive(Deserialize)]
pub(crate) struct Replayed {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) timestamp: i64,
    pub(crate) outcome: String,
    pub(crate) reason: Option<String>,
}

#[derive(Deserialize)]
struct Recovered {
    replays: Vec<Replayed>,
}

/// Returns the replays of a group that ended well: `GET /replays?subscription=`.
pub(crate) async fn recovered(admin: &str, group: &str) -> Result<Vec<Replayed>, Error> {
    let (request, status, text) = get(format!("{admin}/replays?subscription={group}")).await?;
    Ok(parse::<Recovered>(request, status, &text)?.replays)
}

/// Returns one replay, `None` if it is not settled: `GET /replays/{id}`.
pub(crate) async fn replayed(admin: &str, id: &str) -> Result<Option<Replayed>, Error> {
    let (request, status, text) = get(format!("{admin}/replays/{id}")).await?;
    if status == StatusCode::NOT_FOUND {
        return Ok(None);
    }
    parse(request, status, &text).map(Some)
}

/// A subscription of a service.
#[derive(Deserialize)]
pub(crate) struct Subscription {
    pub(crate) group: String,
    /// Of the instance that answered.
    pub(crate) state: String,
    pub(crate) instances: Vec<Instance>,
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

/// Returns the subscriptions of a service: `GET /subscriptions`.
pub(crate) async fn subscriptions(admin: &str) -> Result<Vec<Subscription>, Error> {
    let (request, status, text) = get(format!("{admin}/subscriptions")).await?;
    Ok(parse::<Subscriptions>(request, status, &text)?.subscriptions)
}

/// Does something to a subscription, as an operator: `POST /subscriptions/{group}/{act}`. Returns the answer.
pub(crate) async fn act_on_subscription(
    admin: &str,
    token: &str,
    group: &str,
    act: &str,
    why: &str,
) -> Result<Value, Error> {
    let url = format!("{admin}/subscriptions/{group}/{act}");
    // The inbox of a group may take minutes to drop.
    let request = CLIENT.post(&url).timeout(Duration::from_mins(10)).bearer_auth(token);
    let request = request.json(&json!({ "why": why }));
    let (request, status, text) = send(format!("POST {url}"), request).await?;
    parse(request, status, &text)
}

async fn get(url: String) -> Result<(String, StatusCode, String), Error> {
    send(format!("GET {url}"), CLIENT.get(url)).await
}

/// Returns the request as it is named in errors, the status and the body.
async fn send(
    request: String,
    builder: RequestBuilder,
) -> Result<(String, StatusCode, String), Error> {
    let answered = async {
        let answer = builder.send().await?;
        Ok((answer.status(), answer.text().await?))
    };
    match answered.await {
        Ok((status, text)) => Ok((request, status, text)),
        Err(source) => Err(Error::Http { request, source }),
    }
}

fn parse<T: DeserializeOwned>(request: String, status: StatusCode, text: &str) -> Result<T, Error> {
    match serde_json::from_str(text) {
        Ok(body) if status.is_success() => Ok(body),
        _ => Err(Error::Answer { request, status: status.as_u16(), answer: text.to_owned() }),
    }
}
