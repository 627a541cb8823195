//! Bounds the memory of lists while they are read, since a list may have some megabytes. While they are sent, lists
//! count in the memory of responses.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use chassis::{Limit, Problem};
use envelope::TenantId;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

/// Maximum sum of the limits of lists that are read at once.
const MAX_ROWS: usize = 404;
/// Divisor of these rows for a tenant's share, so that one tenant's long lists leave room for others.
const TENANT_PART: usize = 2;
/// How long a request waits for its turn.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bounds the memory of lists that are being read. Clones share it.
#[derive(Clone)]
pub(crate) struct ListMemory {
    rows: Arc<Semaphore>,
    /// The share of each configured tenant.
    tenants: Arc<Mutex<HashMap<TenantId, Arc<Semaphore>>>>,
    patience: Duration,
}

/// Permission to read a list, until dropped. It does not wait for a client: a list is read completely before it is
/// sent.
pub(crate) struct Turn {
    _permits: [OwnedSemaphorePermit; 2],
}

impl ListMemory {
    pub(crate) fn new() -> Self {
        let rows = Arc::new(Semaphore::new(MAX_ROWS));
        Self { rows, tenants: Arc::default(), patience: PATIENCE }
    }

    /// Waits until a list of this length may be read. Fails with 503 if that takes too long.
    pub(crate) async fn turn(&self, tenant: &TenantId, limit: Limit) -> Result<Turn, Problem> {
        let rows = u32::try_from(limit.rows()).unwrap_or(u32::MAX);
        let acquired = async {
            // The tenant's own permits first, because waiting for them takes none from others.
            let own = self.of(tenant).acquire_many_owned(rows).await?;
            let shared = Arc::clone(&self.rows).acquire_many_owned(rows).await?;
            Ok::<_, AcquireError>(Turn { _permits: [own, shared] })
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
        let mut turns = Vec::new();
        for name in ["acme", "globex", "initech"] {
            while let Ok(turn) = memory.turn(&tenant(name), limit).await {
                turns.push(turn);
            }
        }
        assert_eq!(turns.len(), 4);
        turns.pop();
        assert!(memory.turn(&tenant("initech"), limit).await.is_ok());
    }
}
