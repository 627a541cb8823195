//! Bounds the memory of lists while they are read, since one list may have some megabytes. While
//! lists are sent, their memory counts as memory of responses.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use chassis::{Limit, Problem};
use envelope::TenantId;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

/// Maximum number of rows of all lists that are read at once: four lists of the maximum `limit`,
/// 100, each with the extra row that shows whether another page follows.
const MAX_ROWS: usize = 404;
/// Divisor of [`MAX_ROWS`] for the share of a tenant, so that its long lists leave room for others.
const TENANT_PART: usize = 2;
/// How long a request waits for a permit.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bounds the memory of lists that are being read. Clones share it.
#[derive(Clone)]
pub(crate) struct ListMemory {
    rows: Arc<Semaphore>,
    /// Permits of each configured tenant.
    tenants: Arc<Mutex<HashMap<TenantId, Arc<Semaphore>>>>,
    patience: Duration,
}

/// Permit to read a list, held until it is dropped. It does not depend on the client's speed: a
/// list is read completely before it is sent.
pub(crate) struct ReadPermit {
    _permits: [OwnedSemaphorePermit; 2],
}

impl ListMemory {
    pub(crate) fn new() -> Self {
        let rows = Arc::new(Semaphore::new(MAX_ROWS));
        Self { rows, tenants: Arc::default(), patience: PATIENCE }
    }

    /// Waits for the permits to read a list of this length. Fails with 503 after [`PATIENCE`].
    pub(crate) async fn read_permit(
        &self,
        tenant: &TenantId,
        limit: Limit,
    ) -> Result<ReadPermit, Problem> {
        let rows = u32::try_from(limit.rows()).unwrap_or(u32::MAX);
        let acquired = async {
            // The tenant's own permits first, because waiting for them blocks no other tenant.
            let own = self.of(tenant).acquire_many_owned(rows).await?;
            let shared = Arc::clone(&self.rows).acquire_many_owned(rows).await?;
            Ok::<_, AcquireError>(ReadPermit { _permits: [own, shared] })
        };
        let acquired = tokio::time::timeout(self.patience, acquired).await;
        acquired.ok().and_then(Result::ok).ok_or_else(busy)
    }

    fn of(&self, tenant: &TenantId) -> Arc<Semaphore> {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        let own = || Arc::new(Semaphore::new(MAX_ROWS / TENANT_PART));
        Arc::clone(tenants.entry(tenant.clone()).or_insert_with(own))
    }
}

fn busy() -> Problem {
    let detail = "too many long lists are being read; try again, or use a smaller limit";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "Service unavailable", detail)
        .retry_after(PATIENCE.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn impatient() -> ListMemory {
        ListMemory { patience: Duration::from_millis(20), ..ListMemory::new() }
    }

    fn tenant(name: &str) -> TenantId {
        TenantId::new(name).expect("a tenant")
    }

    #[tokio::test]
    async fn long_lists_are_read_a_few_at_once() {
        let memory = impatient();
        let limit = Limit::try_from(100).expect("a limit");
        let mut permits = Vec::new();
        for name in ["acme", "globex", "initech"] {
            while let Ok(permit) = memory.read_permit(&tenant(name), limit).await {
                permits.push(permit);
            }
        }
        assert_eq!(permits.len(), 4);
        permits.pop();
        assert!(memory.read_permit(&tenant("initech"), limit).await.is_ok());
    }
}
