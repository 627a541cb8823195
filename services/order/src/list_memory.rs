//! The memory that lists take while they are read and sent: a tenant's orders can make a list of some megabytes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{StatusCode, header};
use chassis::{Limit, Problem};
use envelope::TenantId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Rows that are read at once, as the limits of the lists have it.
const MAX_ROWS: usize = 404;
/// KiB of lists that are sent or cached at once. One list has at most a sixth of it.
const MAX_KIB: usize = 24 * 1024;
/// How long a request waits for its turn.
const PATIENCE: Duration = Duration::from_secs(5);

/// Of how many parts of the memory a tenant has one, so that one whose clients read slowly leaves the others theirs. A part
/// is more than all lists that are cached.
const TENANT_PART: usize = 2;

/// Bounds the memory of lists. Clones share it.
#[derive(Clone)]
pub(crate) struct ListMemory {
    shared: Room,
    /// Tenants are those that the configuration knows.
    tenants: Arc<Mutex<HashMap<TenantId, Room>>>,
    patience: Duration,
}

/// What may be read and held at once.
#[derive(Clone)]
struct Room {
    rows: Arc<Semaphore>,
    kib: Arc<Semaphore>,
}

/// The right to read a list, until it is dropped.
pub(crate) struct Turn {
    _permits: [OwnedSemaphorePermit; 2],
}

/// Bytes of a list. Its share of the memory is free when the last clone is dropped: sent, and no longer cached.
struct HeldText {
    text: Vec<u8>,
    _permits: [OwnedSemaphorePermit; 2],
}

impl AsRef<[u8]> for HeldText {
    fn as_ref(&self) -> &[u8] {
        &self.text
    }
}

impl Room {
    fn new(part: usize) -> Self {
        let of = |permits| Arc::new(Semaphore::new(permits / part));
        Self { rows: of(MAX_ROWS), kib: of(MAX_KIB) }
    }
}

impl ListMemory {
    pub(crate) fn new() -> Self {
        Self { shared: Room::new(1), tenants: Arc::default(), patience: PATIENCE }
    }

    /// Waits until a list of this length may be read. Fails with 503 if that takes too long.
    pub(crate) async fn turn(&self, tenant: &TenantId, limit: Limit) -> Result<Turn, Problem> {
        let rows = usize::try_from(limit.rows()).unwrap_or(usize::MAX);
        let own = self.of(tenant);
        let permits = self.acquire([own.rows, Arc::clone(&self.shared.rows)], rows).await?;
        Ok(Turn { _permits: permits })
    }

    /// Waits until a list that was read may be sent. Fails with 503 if that takes too long.
    pub(crate) async fn hold(
        &self,
        tenant: &TenantId,
        mut text: Vec<u8>,
    ) -> Result<Bytes, Problem> {
        text.shrink_to_fit();
        let own = self.of(tenant);
        let kib = (text.len() / 1024).min(MAX_KIB / TENANT_PART);
        let permits = self.acquire([own.kib, Arc::clone(&self.shared.kib)], kib).await?;
        Ok(Bytes::from_owner(HeldText { text, _permits: permits }))
    }

    fn of(&self, tenant: &TenantId) -> Room {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        tenants.entry(tenant.clone()).or_insert_with(|| Room::new(TENANT_PART)).clone()
    }

    /// Takes the tenant's own permits first: who waits for those takes nothing from others.
    async fn acquire(
        &self,
        [own, shared]: [Arc<Semaphore>; 2],
        permits: usize,
    ) -> Result<[OwnedSemaphorePermit; 2], Problem> {
        let permits = u32::try_from(permits).unwrap_or(u32::MAX);
        let acquired = async {
            let own = own.acquire_many_owned(permits).await?;
            Ok::<_, tokio::sync::AcquireError>([own, shared.acquire_many_owned(permits).await?])
        };
        let acquired = tokio::time::timeout(self.patience, acquired).await;
        acquired.ok().and_then(Result::ok).ok_or_else(busy)
    }
}

fn busy() -> Problem {
    let detail = "too many long lists are being read; try again, or with a smaller limit";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "Unavailable", detail)
        .with_header(header::RETRY_AFTER, "5")
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
    async fn lists_that_are_still_being_sent_hold_up_others_of_their_tenant() {
        let memory = impatient();
        let (acme, globex) = (tenant("acme"), tenant("globex"));
        let list = |tenant| memory.hold(tenant, vec![b' '; MAX_KIB / TENANT_PART / 2 * 1024]);
        let (first, second) = (list(&acme).await, list(&acme).await);
        assert!(first.is_ok() && second.is_ok());
        assert!(list(&acme).await.is_err(), "there is no room");
        assert!(list(&globex).await.is_ok(), "another tenant has its own");
        let clone = second.clone();
        drop(second);
        assert!(list(&acme).await.is_err(), "one clone is still being sent");
        drop(clone);
        assert!(list(&acme).await.is_ok());
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
