//! Client for the admin port of an instance.

use std::{fmt, time::Duration};

use reqwest::{Response, Result};
use serde::Deserialize;
use serde_json::Value;

use crate::http::CLIENT;

/// Time limit of a request to an admin port.
const LIMIT: Duration = Duration::from_secs(5);

pub(crate) async fn get(port: u16, path: &str) -> Result<Response> {
    CLIENT.get(format!("http://127.0.0.1:{port}/{path}")).timeout(LIMIT).send().await
}

/// Sends a PUT. Also fails if the response is no success.
pub(crate) async fn put(port: u16, path: &str, token: &str, body: &Value) -> Result<()> {
    let request = CLIENT.put(format!("http://127.0.0.1:{port}/{path}")).timeout(LIMIT);
    request.bearer_auth(token).json(body).send().await?.error_for_status().map(drop)
}

/// Readiness of an instance, from `GET /readyz`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// The status: `ready`, or `degraded` if the service works with restrictions.
    Ready(String),
    /// The service is not ready.
    NotReady,
    /// There was no response.
    Silent,
}

impl Readiness {
    pub(crate) fn is_ready(&self) -> bool {
        matches!(self, Self::Ready(_))
    }
}

impl fmt::Display for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ready(status) => status,
            Self::NotReady => "not ready",
            Self::Silent => "does not answer",
        })
    }
}

pub(crate) async fn readiness(port: u16) -> Readiness {
    #[derive(Deserialize)]
    struct Report {
        status: String,
    }
    let Ok(answer) = get(port, "readyz").await else { return Readiness::Silent };
    if !answer.status().is_success() {
        return Readiness::NotReady;
    }
    match answer.json::<Report>().await {
        Ok(report) => Readiness::Ready(report.status),
        Err(_) => Readiness::Silent,
    }
}
