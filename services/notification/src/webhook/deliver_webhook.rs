use std::sync::OnceLock;
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, HeaderValue, StatusCode};
use jobs::{Context, EnqueueError, Failure, Handler, Job};
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
    /// The attempt that [`Handler::run`] has made with this job, for the hook that records it.
    #[serde(skip)]
    attempted: OnceLock<Attempted>,
}

impl DeliverWebhook {
    /// Creates the job of a new delivery.
    pub(crate) fn first(delivery: Uuid) -> Self {
        Self::of_round(delivery, 0)
    }

    pub(crate) fn of_round(delivery: Uuid, round: i32) -> Self {
        Self { delivery, round: Some(round), attempted: OnceLock::new() }
    }
}

impl Job for DeliverWebhook {
    const KIND: &'static str = "deliver-webhook";
    /// Longer than the client's own limit, whose error is more specific, after the longest wait for
    /// the database: the target may have accepted a delivery whose attempt ends at this limit.
    const TIME_LIMIT: Duration = Duration::from_secs(30);
}

/// An attempt that is not recorded yet, with its effect on the webhook.
struct Attempted {
    webhook: Uuid,
    round: i32,
    attempt: Attempt,
    /// Reason to disable the webhook.
    disables: Option<String>,
    pause: Option<Duration>,
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

    /// Returns the pause that the target asked for.
    fn pause(&self) -> Option<Duration> {
        if let Self::Answered(_, wait) = self { *wait } else { None }
    }

    fn into_failure(self) -> Failure {
        let wait = self.pause();
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

    /// Makes an attempt, and leaves it in the job for [`Handler::attempted`] to record.
    async fn attempt(
        &self,
        job: &DeliverWebhook,
        delivery: &Undelivered,
        secret: &str,
        number: u32,
    ) -> Result<(), Failure> {
        let (at, began) = (OffsetDateTime::now_utc(), Instant::now());
        let outcome = self.post(job.delivery, delivery, secret).await;
        let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (status, error) = match outcome {
            Ok(status) => (Some(status), None),
            Err(error) => (error.status().map(|status| status.as_u16()), Some(error)),
        };
        let attempt = Attempt { number, at, ms, status, error: error.as_ref().map(legible) };
        let attempted = Attempted {
            webhook: delivery.webhook_id,
            round: delivery.round,
            attempt,
            disables: error.as_ref().and_then(DeliveryError::disables),
            pause: error.as_ref().and_then(DeliveryError::pause),
        };
        _ = job.attempted.set(attempted); // Empty until now: a job is decoded for each attempt.
        error.map_or(Ok(()), |error| Err(error.into_failure()))
    }

    /// Records the effect of an attempt on the webhook.
    async fn judge(&self, tx: &mut PgConnection, attempted: &Attempted) -> sqlx::Result<()> {
        let Attempted { webhook, attempt, disables, pause, .. } = attempted;
        if attempt.error.is_none() {
            return health::succeeded(tx, *webhook).await;
        }
        if let Some(reason) = disables {
            return health::disable(tx, *webhook, reason).await;
        }
        if let Some(wait) = pause {
            health::pause(tx, *webhook, *wait).await?;
        }
        health::failed(tx, *webhook, self.settings.disable_after).await
    }
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
            health::hold_all(&self.pool, delivery.webhook_id).await?;
            return self.hold(id, delivery.round).await;
        }
        if let Some(wait) = delivery.paused_for {
            let wait = Duration::try_from_secs_f64(wait).unwrap_or_default();
            return Err(Failure::deferred(DeliveryError::Paused, wait));
        }
        self.attempt(job, &delivery, secret, context.attempt).await
    }

    /// Records an attempt with its effect on the webhook, so that both become visible together.
    /// `run` does not record it, because a failed record would then repeat the request.
    async fn attempted(
        &self,
        tx: &mut PgConnection,
        job: &DeliverWebhook,
        context: &Context,
        _: Option<&Failure>,
    ) -> sqlx::Result<()> {
        let Some(attempted) = job.attempted.get() else { return Ok(()) };
        // The webhook is locked before its delivery, as in all transactions.
        self.judge(tx, attempted).await?;
        let Attempted { round, attempt, .. } = attempted;
        if deliveries::attempted(tx, job.delivery, *round, attempt).await? {
            // The webhook is disabled: the next run, at once, holds its deliveries. The job must
            // not fail, which would call for an operator.
            jobs::restart(tx, [(context.id, job)]).await.map_err(database_error)?;
        }
        Ok(())
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

fn database_error(error: EnqueueError) -> sqlx::Error {
    match error {
        EnqueueError::Database(error) => error,
        error => sqlx::Error::Encode(error.into()),
    }
}

/// Formats an error with its causes on one line.
fn legible(error: &DeliveryError) -> String {
    let chain = telemetry::error_chain(error).replace(char::is_control, " ");
    chain.chars().take(ERROR_CHARS).collect()
}
