use std::time::{Duration, Instant};

use axum::http::{HeaderMap, HeaderValue, StatusCode};
use jobs::{Context, Failure, Handler, Job};
use serde::{Deserialize, Serialize};
use signature::sign_with_all;
use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;
use url::Url;
use uuid::Uuid;

use super::deliveries::{self, Attempt, Undelivered};
use super::health;
use super::target::{Answer, TargetError, Targets};
use crate::config::Webhooks;

/// Maximum length of an error that is shown to a tenant.
const ERROR_CHARS: usize = 500;

/// The job that delivers an event to a webhook. The payload is in the row in `deliveries`.
#[derive(Serialize, Deserialize)]
pub(crate) struct DeliverWebhook {
    pub(crate) delivery: Uuid,
    /// The round of the delivery. `None` in jobs of the previous release, which stands for the
    /// current round.
    #[serde(default)]
    pub(crate) round: Option<i32>,
}

impl DeliverWebhook {
    /// Creates the job of a new delivery.
    pub(crate) fn first(delivery: Uuid) -> Self {
        Self { delivery, round: Some(0) }
    }
}

impl Job for DeliverWebhook {
    const KIND: &'static str = "deliver-webhook";
    /// Longer than the client's own limit, whose error is more specific.
    const TIME_LIMIT: Duration = Duration::from_secs(15);
}

/// A delivery failed.
#[derive(Debug, thiserror::Error)]
enum DeliveryError {
    #[error("the target answered {0}")]
    Answered(StatusCode, Option<Duration>),
    #[error("the target answered {0}, and redirects are not followed")]
    Redirected(StatusCode),
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error("the URL or the secret can't be used")]
    Unusable,
    #[error("the target asked for a pause (Retry-After) in its response to another delivery")]
    Paused,
    #[error("the webhook was enabled meanwhile")]
    Enabled,
}

impl DeliveryError {
    fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Answered(status, _) | Self::Redirected(status) => Some(*status),
            Self::Target(_) | Self::Unusable | Self::Paused | Self::Enabled => None,
        }
    }

    /// Returns the reason to disable the webhook, if the failure is permanent.
    fn disables(&self) -> Option<String> {
        match self {
            Self::Answered(StatusCode::GONE, _) => Some("the target answered 410 Gone".to_owned()),
            Self::Target(error @ TargetError::Insecure) => Some(error.to_string()),
            _ => None,
        }
    }

    fn into_failure(self) -> Failure {
        let wait = if let Self::Answered(_, wait) = &self { *wait } else { None };
        let failure = Failure::from(self);
        match wait {
            Some(wait) => failure.retry_after(wait),
            None => failure,
        }
    }
}

/// Delivers events, signed according to Standard Webhooks.
pub(crate) struct Delivering {
    pub(crate) pool: PgPool,
    pub(crate) targets: Targets,
    pub(crate) settings: Webhooks,
}

impl Delivering {
    /// Maximum number of concurrent jobs. A tenant gets a quarter of them and a webhook an eighth.
    /// A target that does not respond occupies its places until the client times out.
    pub(crate) const PLACES: usize = 64;

    async fn post(
        &self,
        id: Uuid,
        delivery: &Undelivered,
        secret: &str,
    ) -> Result<u16, DeliveryError> {
        let url = Url::parse(&delivery.url).map_err(|_| DeliveryError::Unusable)?;
        let secrets =
            std::iter::once(secret).chain(delivery.replaced_secrets.iter().map(String::as_str));
        let headers = signed(id, &delivery.body, secrets).ok_or(DeliveryError::Unusable)?;
        let Answer { status, retry_after } =
            self.targets.post(&url, headers, delivery.body.clone()).await?;
        if status.is_success() {
            Ok(status.as_u16())
        } else if status.is_redirection() {
            Err(DeliveryError::Redirected(status))
        } else {
            Err(DeliveryError::Answered(status, retry_after))
        }
    }

    /// Holds the delivery of a disabled webhook. If that was not possible, the job looks at the
    /// delivery again.
    async fn hold(&self, id: Uuid, round: i32) -> Result<(), Failure> {
        if deliveries::hold(&self.pool, id, round).await? {
            Ok(())
        } else {
            Err(Failure::deferred(DeliveryError::Enabled, Duration::ZERO))
        }
    }

    /// Makes an attempt, and records it in one transaction with its effect on the webhook, so that
    /// both become visible together, or neither if the instance dies.
    async fn attempt(
        &self,
        id: Uuid,
        delivery: &Undelivered,
        secret: &str,
        number: u32,
    ) -> sqlx::Result<Attempted> {
        let (at, began) = (OffsetDateTime::now_utc(), Instant::now());
        let outcome = self.post(id, delivery, secret).await;
        let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (status, error) = match &outcome {
            Ok(status) => (Some(*status), None),
            Err(error) => (error.status().map(|status| status.as_u16()), Some(legible(error))),
        };
        let attempt = Attempt { number, at, ms, status, error };
        let mut tx = self.pool.begin().await?;
        // The webhook is locked before its delivery, as in all transactions.
        let disabled = self.judge(&mut tx, delivery.webhook_id, &outcome).await?;
        deliveries::attempted(&mut tx, id, delivery.round, attempt).await?;
        tx.commit().await?;
        if disabled {
            health::hold_all(&self.pool, delivery.webhook_id).await?;
        }
        Ok(Attempted { outcome, disabled })
    }

    /// Records the effect of an attempt on the webhook. Returns `true` if the webhook is disabled
    /// now.
    async fn judge(
        &self,
        tx: &mut PgConnection,
        webhook: Uuid,
        outcome: &Result<u16, DeliveryError>,
    ) -> sqlx::Result<bool> {
        let Err(error) = outcome else {
            health::succeeded(tx, webhook).await?;
            return Ok(false);
        };
        if let Some(reason) = error.disables() {
            health::disable(tx, webhook, &reason).await?;
            return Ok(true);
        }
        if let DeliveryError::Answered(_, Some(wait)) = error {
            health::pause(tx, webhook, *wait).await?;
        }
        health::failed(tx, webhook, self.settings.disable_after).await
    }
}

/// Result of an attempt.
struct Attempted {
    outcome: Result<u16, DeliveryError>,
    /// Whether the webhook is disabled now.
    disabled: bool,
}

/// Returns the headers of this attempt. The id is the same in all attempts of a delivery.
fn signed<'a>(id: Uuid, body: &str, secrets: impl Iterator<Item = &'a str>) -> Option<HeaderMap> {
    let (id, timestamp) = (id.to_string(), OffsetDateTime::now_utc().unix_timestamp());
    let signature = sign_with_all(secrets, &id, timestamp, body)?;
    let mut headers = HeaderMap::new();
    headers.insert("webhook-id", HeaderValue::from_str(&id).ok()?);
    headers.insert("webhook-timestamp", timestamp.into());
    headers.insert("webhook-signature", HeaderValue::from_str(&signature).ok()?);
    Some(headers)
}

impl Handler for Delivering {
    type Job = DeliverWebhook;
    const AT_ONCE: usize = Self::PLACES;

    fn backoff(&self) -> &[Duration] {
        &self.settings.retries
    }

    async fn run(&self, job: &DeliverWebhook, context: &Context) -> Result<(), Failure> {
        let id = job.delivery;
        let Some(delivery) = deliveries::undelivered(&self.pool, job).await? else {
            return Ok(());
        };
        let Some(secret) = &delivery.secret else {
            return Ok(deliveries::cancel(&self.pool, id).await?);
        };
        if delivery.is_disabled {
            return self.hold(id, delivery.round).await;
        }
        if let Some(wait) = delivery.paused_for {
            let wait = Duration::try_from_secs_f64(wait).unwrap_or_default();
            return Err(Failure::deferred(DeliveryError::Paused, wait));
        }
        let Attempted { outcome, disabled } =
            self.attempt(id, &delivery, secret, context.attempt).await?;
        match outcome {
            // The delivery waits for the tenant to enable the webhook, so the job must not fail,
            // which would call for an operator.
            Err(_) if disabled => self.hold(id, delivery.round).await,
            Err(error) => Err(error.into_failure()),
            Ok(_) => Ok(()),
        }
    }

    async fn failed(
        &self,
        tx: &mut PgConnection,
        job: &DeliverWebhook,
        _: &Context,
        _: &Failure,
    ) -> sqlx::Result<()> {
        deliveries::fail(tx, job).await
    }
}

/// Formats an error with its causes on one line.
fn legible(error: &DeliveryError) -> String {
    let chain = telemetry::error_chain(error).replace(char::is_control, " ");
    chain.chars().take(ERROR_CHARS).collect()
}
