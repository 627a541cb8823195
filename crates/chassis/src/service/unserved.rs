use std::time::Duration;

use sqlx::PgPool;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const LOOK_EVERY: Duration = Duration::from_secs(10);
const NO_RELAY: &str =
    "no relay publishes them: the service declares no topics with Service::publishes";

/// Finds events and jobs that nothing takes. Every service has their tables, so a handler can write
/// to them although its service has no relay or no worker.
pub(super) struct UnservedWork {
    pub(super) pool: PgPool,
    pub(super) has_relay: bool,
    pub(super) has_worker: bool,
    /// Receives a sentence while events wait.
    pub(super) events: watch::Sender<Vec<String>>,
}

/// The kinds of rows that wait for nothing: `true` if there are any.
#[derive(Clone, Copy, Default, sqlx::FromRow)]
struct Waiting {
    events: bool,
    jobs: bool,
}

impl UnservedWork {
    /// Looks until `shutdown` is cancelled, and logs what it finds once.
    pub(super) async fn watch(self, shutdown: CancellationToken) {
        if self.has_relay && self.has_worker {
            return;
        }
        let mut before = Waiting::default();
        loop {
            // A failure of the database is reported by its other users.
            if let Some(Ok(found)) = shutdown.run_until_cancelled(self.look()).await {
                self.report(before, found);
                before = found;
            }
            if shutdown.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_none() {
                return;
            }
        }
    }

    async fn look(&self) -> sqlx::Result<Waiting> {
        let waiting = sqlx::query_as(
            "select not $1 and exists(select from outbox) as events,
                    not $2 and exists(select from job where failed_at is null) as jobs",
        );
        let waiting = waiting.bind(self.has_relay).bind(self.has_worker);
        pg::bounded(waiting.fetch_one(&self.pool)).await
    }

    fn report(&self, before: Waiting, found: Waiting) {
        if found.events && !before.events {
            tracing::error!("events wait in the outbox, and {NO_RELAY}");
        }
        if found.jobs && !before.jobs {
            tracing::error!(
                "jobs wait, and no worker runs them: the service declares none with Service::jobs"
            );
        }
        let why = if found.events { vec![NO_RELAY.to_owned()] } else { Vec::new() };
        self.events.send_replace(why);
    }
}
