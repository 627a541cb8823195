use std::time::{Duration, Instant};

use axum::http::{HeaderMap, HeaderValue, StatusCode};
use jobs::{Context, Failure, Handler, Job};
use serde::{Deserialize, Serialize};
use signature::sign;
use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;
use url::Url;
use uuid::Uuid;

use super::deliveries::{self, Attempt, Undelivered};
use super::target::{TargetError, Targets};

/// Maximum length of an error that a tenant is shown.
const ERROR_CHARS: usize = 500;

/// Delivers an event to a webhook. The row in `deliveries` has the payload.
#[derive(Serialize, Deserialize)]
pub(crate) struct DeliverWebhook {
    pub(crate) delivery: Uuid,
}

impl Job for DeliverWebhook {
    const KIND: &'static str = "deliver-webhook";
    const BACKOFF: &'static [Duration] =
        &[Duration::from_secs(5), Duration::from_secs(30), Duration::from_mins(5)];
    /// Above the target's own limit, whose error says more.
    const TIME_LIMIT: Duration = Duration::from_secs(15);
}

/// Why a delivery failed.
#[derive(Debug, thiserror::Error)]
enum DeliveryError {
    #[error("the target answered {0}")]
    Answered(StatusCode),
    #[error("the target answered {0}, and redirects are not followed")]
    Redirected(StatusCode),
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error("the URL or the secret can't be used")]
    Unusable,
}

/// Delivers events, signed as in Standard Webhooks.
pub(crate) struct Delivering {
    pub(crate) pool: PgPool,
    pub(crate) targets: Targets,
}

impl Delivering {
    async fn post(&self, id: Uuid, told: &Undelivered, secret: &str) -> Result<u16, DeliveryError> {
        let url = Url::parse(&told.url).map_err(|_| DeliveryError::Unusable)?;
        let headers = signed(id, &told.body, secret).ok_or(DeliveryError::Unusable)?;
        let status = self.targets.post(&url, headers, told.body.clone()).await?;
        if status.is_success() {
            Ok(status.as_u16())
        } else if status.is_redirection() {
            Err(DeliveryError::Redirected(status))
        } else {
            Err(DeliveryError::Answered(status))
        }
    }
}

/// Returns the headers of this attempt. The id is the same in every attempt.
fn signed(id: Uuid, body: &str, secret: &str) -> Option<HeaderMap> {
    let (id, timestamp) = (id.to_string(), OffsetDateTime::now_utc().unix_timestamp());
    let signature = sign(secret, &id, timestamp, body)?;
    let mut headers = HeaderMap::new();
    headers.insert("webhook-id", HeaderValue::from_str(&id).ok()?);
    headers.insert("webhook-timestamp", timestamp.into());
    headers.insert("webhook-signature", HeaderValue::from_str(&signature).ok()?);
    Some(headers)
}

impl Handler for Delivering {
    type Job = DeliverWebhook;

    async fn run(&self, job: &DeliverWebhook, context: &Context) -> Result<(), Failure> {
        let id = job.delivery;
        let Some(told) = deliveries::undelivered(&self.pool, id).await? else {
            return Ok(());
        };
        let Some(secret) = &told.secret else {
            return Ok(deliveries::cancel(&self.pool, id).await?);
        };
        let (at, began) = (OffsetDateTime::now_utc(), Instant::now());
        let outcome = self.post(id, &told, secret).await;
        let status = match &outcome {
            Ok(status) => Some(*status),
            Err(DeliveryError::Answered(status) | DeliveryError::Redirected(status)) => {
                Some(status.as_u16())
            }
            Err(_) => None,
        };
        let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let failure = outcome.err().map(Failure::retryable);
        let error = failure.as_ref().map(legible);
        let attempt = Attempt { number: context.attempt, at, ms, status, error };
        deliveries::attempted(&self.pool, id, attempt).await?;
        failure.map_or(Ok(()), Err)
    }

    async fn done(
        &self,
        tx: &mut PgConnection,
        job: &DeliverWebhook,
        _: &Context,
    ) -> sqlx::Result<()> {
        deliveries::settle(tx, job.delivery, true).await
    }

    async fn failed(
        &self,
        tx: &mut PgConnection,
        job: &DeliverWebhook,
        _: &Context,
        _: &Failure,
    ) -> sqlx::Result<()> {
        deliveries::settle(tx, job.delivery, false).await
    }
}

fn legible(failure: &Failure) -> String {
    let chain = failure.chain().replace("\ncaused by: ", ": ");
    chain.replace(char::is_control, " ").chars().take(ERROR_CHARS).collect()
}
