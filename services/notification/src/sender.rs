use std::time::Duration;

use futures::future::join_all;
use sqlx::PgPool;
use telemetry::TraceContext;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span, field};

use crate::mailer::{Mailer, SendError};
use crate::store::{self, Due};

/// How often it looks for e-mails to send.
const POLL: Duration = Duration::from_millis(200);
/// How long it waits for a database that is away.
const BACKOFF: Duration = Duration::from_secs(1);
/// E-mails that are sent side by side, each on a connection of the pool: sending is mostly waiting.
const SIDE_BY_SIDE: usize = 4;

/// Sends what is unsent. Every instance runs one.
pub(crate) struct Sender {
    pool: PgPool,
    mailer: Mailer,
}

impl Sender {
    pub(crate) fn new(pool: PgPool, mailer: Mailer) -> Self {
        Self { pool, mailer }
    }

    /// Runs until shutdown; an e-mail under way is sent before.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        while !shutdown.is_cancelled() {
            let pause = match self.send_all_due(&shutdown).await {
                Ok(()) => POLL,
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "e-mails wait for the database");
                    BACKOFF
                }
            };
            shutdown.run_until_cancelled(sleep(pause)).await;
        }
    }

    async fn send_all_due(&self, shutdown: &CancellationToken) -> sqlx::Result<()> {
        // While there is nothing to do, one query says so.
        if !self.send_next().await? {
            return Ok(());
        }
        let until_none_is_due = async || {
            while !shutdown.is_cancelled() && self.send_next().await? {}
            Ok(())
        };
        join_all((0..SIDE_BY_SIDE).map(|_| until_none_is_due())).await.into_iter().collect()
    }

    /// False: none is due. The transaction holds the row's lock while its e-mail is sent; ended by a crash, the
    /// e-mail is sent again under the same `Message-ID`.
    async fn send_next(&self) -> sqlx::Result<bool> {
        let mut tx = self.pool.begin().await?;
        let Some(due) = store::claim(&mut tx).await? else {
            return Ok(false);
        };
        let outcome = self.send(&due).instrument(span(&due)).await;
        store::settle(&mut tx, &due, &outcome).await?;
        tx.commit().await?;
        Ok(true)
    }

    async fn send(&self, due: &Due) -> Result<(), SendError> {
        let outcome = self.mailer.send(due).await;
        match &outcome {
            Ok(()) => tracing::info!("an e-mail was sent"),
            Err(error) => {
                Span::current().record("otel.status_code", "ERROR");
                let permanent = error.is_permanent();
                let error = error as &dyn std::error::Error;
                tracing::warn!(error, permanent, "an e-mail was not sent");
            }
        }
        outcome
    }
}

/// The span of one attempt: a child of the one that wrote the e-mail.
fn span(due: &Due) -> Span {
    let span = tracing::info_span!(
        "send e-mail",
        otel.name = format!("send {}", due.kind),
        otel.kind = "client",
        otel.status_code = field::Empty,
        order_id = %due.order_id,
        kind = due.kind,
        message_id = due.message_id,
        correlation_id = due.correlation_id,
        tenant_id = due.tenant_id,
    );
    if let Some(traceparent) = &due.traceparent {
        TraceContext::new(traceparent, None).set_parent(&span);
    }
    span
}
