//! Lists of a customer's orders, kept for some seconds.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chassis::Limit;
use envelope::TenantId;
use serde_json::Value;

/// How long a list is served without asking the database. Another instance's change shows at the latest then.
const KEPT: Duration = Duration::from_secs(3);
/// Customers whose lists are kept; above it all are forgotten, which costs a query each.
const MAX_CUSTOMERS: usize = 10_000;
/// Customers share counters, so that those take no room of their own.
const COUNTERS: usize = 1024;

type Customer = (TenantId, String);

/// First pages, by customer. Clones share them.
#[derive(Clone)]
pub(crate) struct Lists {
    shared: Arc<Shared>,
}

struct Shared {
    kept: Mutex<HashMap<Customer, Kept>>,
    hasher: RandomState,
    /// How often lists were forgotten.
    forgotten: Vec<AtomicU64>,
}

struct Kept {
    limit: Limit,
    since: Instant,
    list: Arc<Value>,
}

/// What was known when a list was about to be read: a list that was forgotten meanwhile is not kept.
pub(crate) struct Reading {
    customer: Customer,
    limit: Limit,
    forgotten: u64,
}

impl Lists {
    pub(crate) fn new() -> Self {
        let shared = Shared {
            kept: Mutex::default(),
            hasher: RandomState::new(),
            forgotten: (0..COUNTERS).map(|_| AtomicU64::new(0)).collect(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The list, or what it takes to [keep](Self::keep) it when it was read.
    pub(crate) fn get(
        &self,
        tenant: &TenantId,
        customer: &str,
        limit: Limit,
    ) -> Result<Arc<Value>, Reading> {
        let customer = (tenant.clone(), customer.to_owned());
        let forgotten = self.counter(&customer).load(Ordering::Acquire);
        let mut lists = self.lists();
        match lists.get(&customer) {
            Some(kept) if kept.since.elapsed() >= KEPT => lists.remove(&customer),
            Some(kept) if kept.limit == limit => return Ok(Arc::clone(&kept.list)),
            _ => None,
        };
        Err(Reading { customer, limit, forgotten })
    }

    /// Keeps what was read.
    pub(crate) fn keep(&self, reading: Reading, list: Arc<Value>) {
        let Reading { customer, limit, forgotten } = reading;
        let mut lists = self.lists();
        // Asked under the lock that `forget` takes after it has counted: either it is seen here, or it removes this.
        if self.counter(&customer).load(Ordering::Acquire) != forgotten {
            return;
        }
        if lists.len() >= MAX_CUSTOMERS {
            lists.clear();
        }
        lists.insert(customer, Kept { limit, since: Instant::now(), list });
    }

    /// Something of this customer changed: what was read before is not served from now on.
    pub(crate) fn forget(&self, tenant: &TenantId, customer: &str) {
        let customer = (tenant.clone(), customer.to_owned());
        self.counter(&customer).fetch_add(1, Ordering::AcqRel);
        self.lists().remove(&customer);
    }

    fn counter(&self, customer: &Customer) -> &AtomicU64 {
        let hash = usize::try_from(self.shared.hasher.hash_one(customer) % COUNTERS as u64);
        &self.shared.forgotten[hash.unwrap_or_default()]
    }

    fn lists(&self) -> MutexGuard<'_, HashMap<Customer, Kept>> {
        self.shared.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(rows: u32) -> Limit {
        Limit::try_from(rows).expect("a limit")
    }

    fn tenant(name: &str) -> TenantId {
        TenantId::new(name).expect("a tenant")
    }

    #[test]
    fn a_list_is_kept_for_its_customer_until_it_is_forgotten() {
        let lists = Lists::new();
        let (acme, globex) = (tenant("acme"), tenant("globex"));
        let reading = lists.get(&acme, "ada", limit(20)).expect_err("nothing yet");
        lists.keep(reading, Arc::new(Value::from(1)));
        assert_eq!(lists.get(&acme, "ada", limit(20)).ok().as_deref(), Some(&Value::from(1)));
        assert!(lists.get(&acme, "ada", limit(5)).is_err(), "another page");
        assert!(lists.get(&globex, "ada", limit(20)).is_err(), "another tenant's customer");
        lists.forget(&acme, "ada");
        assert!(lists.get(&acme, "ada", limit(20)).is_err());
    }

    #[test]
    fn what_was_read_before_a_change_is_not_kept_after_it() {
        let lists = Lists::new();
        let acme = tenant("acme");
        let reading = lists.get(&acme, "ada", limit(20)).expect_err("nothing yet");
        lists.forget(&acme, "ada");
        lists.keep(reading, Arc::new(Value::from("old")));
        assert!(lists.get(&acme, "ada", limit(20)).is_err());
    }
}
