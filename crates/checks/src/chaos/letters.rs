//! Replays billing's dead letters, as operators request it.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::Error;
use super::instance::{CLIENT, Instance};

/// Operators and their tokens, for `OPERATOR_TOKENS`.
pub(crate) const OPERATORS: &str = "ada=ada's,grace=grace's";
/// Tokens of the operators.
pub(crate) const ADA: &str = "ada's";
pub(crate) const GRACE: &str = "grace's";
/// Time limit of a replay.
const REPLAYED: Duration = Duration::from_mins(4);

/// Requests a replay and returns its id, or `None` if there is nothing to replay.
pub(crate) async fn request(
    billing: &Instance,
    token: &str,
    replay: &Value,
) -> Result<Option<String>, Error> {
    let url = format!("http://127.0.0.1:{}/replays", billing.admin);
    let answer = CLIENT.post(url).bearer_auth(token).json(replay).send().await?;
    if answer.status() == StatusCode::CONFLICT {
        return Ok(None);
    }
    let body: Value = answer.error_for_status()?.json().await?;
    body["id"].as_str().map(|id| Some(id.to_owned())).ok_or_else(|| "a replay without an id".into())
}

/// Returns a replay, or `None` if billing does not answer.
pub(crate) async fn replay(billing: &Instance, id: &str) -> Option<Value> {
    let url = format!("http://127.0.0.1:{}/replays/{id}", billing.admin);
    CLIENT.get(url).send().await.ok()?.json().await.ok()
}

/// Waits until a replay is done and returns it.
pub(crate) async fn ended(billing: &Instance, id: &str) -> Result<Value, Error> {
    let deadline = Instant::now() + REPLAYED;
    loop {
        let replay = replay(billing, id).await.unwrap_or_default();
        if replay["status"] == "done" {
            return Ok(replay);
        }
        if Instant::now() > deadline {
            return Err(format!("the replay did not end: {replay}").into());
        }
        sleep(Duration::from_millis(200)).await;
    }
}
