use std::time::Duration;

use events::OrderId;
use jobs::{Context, Failure, Handler, Job};
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::mailer::Mailer;
use super::store;

/// Maximum length of the error that is stored with an e-mail. The job has the whole error.
const ERROR_CHARS: usize = 1000;

/// The job that sends an e-mail. Its content is in the row in `emails`.
#[derive(Serialize, Deserialize)]
pub(crate) struct SendEmail {
    pub(crate) order_id: OrderId,
    kind: String,
}

impl SendEmail {
    pub(crate) fn new(order: Uuid, kind: String) -> Self {
        Self { order_id: OrderId(order), kind }
    }

    pub(crate) fn is_of(&self, order: OrderId, kind: &str) -> bool {
        self.order_id == order && self.kind == kind
    }
}

impl Job for SendEmail {
    const KIND: &'static str = "send-email";
    /// Longer than the mailer's own limit, whose error is more specific, after the longest wait for
    /// the database: the server may have accepted an e-mail whose attempt ends at this limit.
    const TIME_LIMIT: Duration = Duration::from_secs(50);
}

/// Sends e-mails. If a worker dies after sending one and before recording that, the e-mail is sent
/// again under the same `Message-ID`.
pub(crate) struct Sending {
    pub(crate) pool: PgPool,
    pub(crate) mailer: Mailer,
}

impl Sending {
    /// Maximum number of concurrent jobs. A tenant gets a quarter of them.
    pub(crate) const PLACES: usize = 32;
}

impl Handler for Sending {
    type Job = SendEmail;
    const AT_ONCE: usize = Self::PLACES;

    async fn run(&self, job: &SendEmail, _: &Context) -> Result<(), Failure> {
        let Some(email) = store::unsent(&self.pool, job.order_id, &job.kind).await? else {
            return Ok(());
        };
        let Err(error) = self.mailer.send(&email).await else {
            tracing::info!(order_id = %job.order_id, kind = job.kind, "e-mail sent");
            return Ok(());
        };
        let permanent = error.is_permanent();
        let failure = if permanent { Failure::permanent(error) } else { error.into() };
        if store::tried(&self.pool, job.order_id, &job.kind, &legible(&failure)).await? {
            return Err(failure);
        }
        // The error may quote the address, and nothing would erase it from the job later.
        tracing::info!(order_id = %job.order_id, kind = job.kind, "e-mail erased meanwhile");
        Ok(())
    }

    async fn done(&self, tx: &mut PgConnection, job: &SendEmail, _: &Context) -> sqlx::Result<()> {
        store::sent(tx, job.order_id, &job.kind).await
    }

    async fn failed(
        &self,
        tx: &mut PgConnection,
        job: &SendEmail,
        context: &Context,
        _: &Failure,
    ) -> sqlx::Result<()> {
        if store::given_up(tx, job.order_id, &job.kind).await? {
            return Ok(());
        }
        // Erased after `run` has recorded the attempt.
        jobs::forget_failed(tx, &[context.id]).await
    }
}

/// Formats an error with its causes on one line, because servers may reply with any text.
fn legible(failure: &Failure) -> String {
    let chain = failure.chain().replace("\ncaused by: ", ": ");
    chain.replace(char::is_control, " ").chars().take(ERROR_CHARS).collect()
}
