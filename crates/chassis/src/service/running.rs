use std::net::SocketAddr;
use std::time::{Duration, Instant};

use defer::Deferrer;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use super::tasks::Tasks;
use crate::live_file::Reload;

/// Time limit at shutdown for all intake and the work that it deferred.
pub(super) const DRAIN_INTAKE: Duration = Duration::from_secs(6);
/// Part of that time reserved for deferred tasks.
const DRAIN_DEFERRED: Duration = Duration::from_millis(500);
/// Time limit of the relay after that.
const DRAIN_RELAY: Duration = Duration::from_millis(2_500);

/// A running service.
#[derive(Debug)]
pub struct RunningService {
    /// Address of the public API.
    pub http: SocketAddr,
    /// Address of the admin port.
    pub admin: SocketAddr,
    pool: PgPool,
    /// Intake: requests, messages, jobs, housekeeping. Ends first.
    pub(super) intake: Tasks,
    /// Runs what requests deferred, after the requests.
    pub(super) deferrer: Deferrer,
    /// Output: the relay and the admin port. Ends after the intake.
    pub(super) outlet: Tasks,
    /// Writes flow steps. Ends last, since all other tasks create them.
    pub(super) recording: Tasks,
    /// Cancelled when a vital task panics.
    pub(super) panicked: CancellationToken,
    pub(super) reload: Reload,
}

impl RunningService {
    /// Creates a service that has no task yet.
    pub(super) fn new(
        http: SocketAddr,
        admin: SocketAddr,
        pool: PgPool,
        deferrer: Deferrer,
    ) -> Self {
        Self {
            http,
            admin,
            pool,
            intake: Tasks::default(),
            deferrer,
            outlet: Tasks::default(),
            recording: Tasks::default(),
            panicked: CancellationToken::new(),
            reload: Reload::default(),
        }
    }

    /// Returns when a vital task has panicked. The service should then be shut down and restarted.
    pub async fn panicked(&self) {
        self.panicked.cancelled().await;
    }

    /// Reloads the files of keys and operators. An invalid file is logged, and its old entries
    /// stay.
    pub fn reload(&self) {
        self.reload.now();
    }

    /// Stops the intake, drains, then stops the rest. Returns `false` if a task did not end in
    /// time. Dropping the future stops the remaining tasks without draining them.
    pub async fn shutdown(self) -> bool {
        let began = Instant::now();
        self.intake.cancel();
        let taken_in = tokio::time::timeout(DRAIN_INTAKE, self.intake.wait()).await.is_ok();
        let left = DRAIN_INTAKE.saturating_sub(began.elapsed()).max(DRAIN_DEFERRED);
        let dropped = self.deferrer.drain(left).await.dropped;
        if dropped > 0 {
            tracing::warn!(dropped, "deferred tasks dropped since the start");
        }
        self.outlet.cancel();
        let carry_out = async {
            self.outlet.wait().await;
            self.recording.cancel();
            self.recording.wait().await;
            self.pool.close().await;
        };
        let carried_out = tokio::time::timeout(DRAIN_RELAY, carry_out).await.is_ok();
        taken_in && carried_out
    }
}

/// Stops the tasks without draining, for a start or a test that fails: threads that go on polling
/// would keep the process alive.
impl Drop for RunningService {
    fn drop(&mut self) {
        self.intake.cancel();
        self.outlet.cancel();
        self.recording.cancel();
    }
}
