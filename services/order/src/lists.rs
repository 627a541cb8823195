//! Lists of a customer's orders, kept for some seconds as the bytes of the response.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use chassis::Limit;
use envelope::TenantId;

use crate::order::Order;

/// How long a list is served without asking the database. Another instance's change shows at the latest then.
const KEPT: Duration = Duration::from_secs(3);
/// Bytes of all lists together. The oldest make room.
const MAX_BYTES: usize = 8 * 1024 * 1024;
/// Bytes of one list. A longer one is not kept, since a few of them would leave no room for the others.
const MAX_LIST_BYTES: usize = MAX_BYTES / 16;
/// Customers whose lists are kept, or were within the last seconds. The oldest make room.
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
    kept: Mutex<Kept>,
    hasher: RandomState,
    /// How often lists were forgotten.
    forgotten: Vec<AtomicU64>,
}

/// A list that was about to be read. It is not kept if it was forgotten meanwhile.
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

    /// Returns the list, or a token to [keep](Self::keep) it with once it has been read.
    pub(crate) fn get(
        &self,
        tenant: &TenantId,
        customer: &str,
        limit: Limit,
    ) -> Result<Bytes, Reading> {
        let customer = (tenant.clone(), customer.to_owned());
        let forgotten = self.counter(&customer).load(Ordering::Acquire);
        let list = self.kept().get(&customer, limit);
        list.ok_or(Reading { customer, limit, forgotten })
    }

    /// Keeps a list that was read.
    pub(crate) fn keep(&self, reading: Reading, list: Bytes) {
        let Reading { customer, limit, forgotten } = reading;
        let mut kept = self.kept();
        // Checked under the lock that `forget` takes after counting: either the count is seen here, or `forget` removes
        // this list.
        if self.counter(&customer).load(Ordering::Acquire) == forgotten {
            kept.insert(customer, List { limit, since: Instant::now(), text: list });
        }
    }

    /// Forgets the lists of the customers of these orders, whose next reader asks the database.
    pub(crate) fn forget(&self, orders: &[&Order]) {
        for order in orders {
            self.forget_customer(&order.state.tenant_id, &order.state.customer_email);
        }
    }

    fn forget_customer(&self, tenant: &TenantId, customer: &str) {
        let customer = (tenant.clone(), customer.to_owned());
        self.counter(&customer).fetch_add(1, Ordering::AcqRel);
        self.kept().remove(&customer);
    }

    fn counter(&self, customer: &Customer) -> &AtomicU64 {
        let hash = usize::try_from(self.shared.hasher.hash_one(customer) % COUNTERS as u64);
        &self.shared.forgotten[hash.unwrap_or_default()]
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.shared.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct List {
    limit: Limit,
    since: Instant,
    text: Bytes,
}

/// Lists within the bounds.
#[derive(Default)]
struct Kept {
    lists: HashMap<Customer, List>,
    /// When each was kept, the oldest first. Lists that were forgotten or replaced since are still named here.
    ages: VecDeque<(Instant, Customer)>,
    bytes: usize,
}

impl Kept {
    fn get(&mut self, customer: &Customer, limit: Limit) -> Option<Bytes> {
        // Lists that expired would keep their share of the memory until one is kept again.
        self.make_room();
        let list = self.lists.get(customer)?;
        let is_current = list.limit == limit && list.since.elapsed() < KEPT;
        is_current.then(|| list.text.clone())
    }

    fn insert(&mut self, customer: Customer, list: List) {
        self.remove(&customer);
        if list.text.len() > MAX_LIST_BYTES {
            return;
        }
        self.bytes += list.text.len();
        self.ages.push_back((list.since, customer.clone()));
        self.lists.insert(customer, list);
        self.make_room();
    }

    fn make_room(&mut self) {
        while self.is_over() {
            self.drop_oldest();
        }
    }

    /// Returns `true` if the oldest list is to go: it expired, or there are too many.
    fn is_over(&self) -> bool {
        let has_expired = |(since, _): &(Instant, Customer)| since.elapsed() >= KEPT;
        self.bytes > MAX_BYTES
            || self.ages.len() > MAX_CUSTOMERS
            || self.ages.front().is_some_and(has_expired)
    }

    fn drop_oldest(&mut self) {
        let Some((since, customer)) = self.ages.pop_front() else { return };
        if self.lists.get(&customer).is_some_and(|list| list.since == since) {
            self.remove(&customer);
        }
    }

    fn remove(&mut self, customer: &Customer) {
        if let Some(list) = self.lists.remove(customer) {
            self.bytes -= list.text.len();
        }
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

    fn keep(lists: &Lists, customer: &str, text: Bytes) {
        let reading = lists.get(&tenant("acme"), customer, limit(20)).expect_err("nothing yet");
        lists.keep(reading, text);
    }

    fn is_kept(lists: &Lists, customer: &str) -> bool {
        lists.get(&tenant("acme"), customer, limit(20)).is_ok()
    }

    #[test]
    fn a_list_is_kept_for_its_customer_until_it_is_forgotten() {
        let lists = Lists::new();
        let (acme, globex) = (tenant("acme"), tenant("globex"));
        keep(&lists, "ada", "[]".into());
        assert_eq!(lists.get(&acme, "ada", limit(20)).ok(), Some("[]".into()));
        assert!(lists.get(&acme, "ada", limit(5)).is_err(), "another page");
        assert!(lists.get(&globex, "ada", limit(20)).is_err(), "another tenant's customer");
        lists.forget_customer(&acme, "ada");
        assert!(!is_kept(&lists, "ada"));
        assert_eq!(lists.kept().bytes, 0);
    }

    #[test]
    fn what_was_read_before_a_change_is_not_kept_after_it() {
        let lists = Lists::new();
        let acme = tenant("acme");
        let reading = lists.get(&acme, "ada", limit(20)).expect_err("nothing yet");
        lists.forget_customer(&acme, "ada");
        lists.keep(reading, "old".into());
        assert!(!is_kept(&lists, "ada"));
    }

    #[test]
    fn lists_are_bounded_in_bytes() {
        let lists = Lists::new();
        keep(&lists, "huge", vec![b' '; MAX_LIST_BYTES + 1].into());
        assert!(!is_kept(&lists, "huge"), "it is more than a share");
        for n in 0..64 {
            keep(&lists, &n.to_string(), vec![b' '; MAX_LIST_BYTES].into());
        }
        assert_eq!(lists.kept().bytes, MAX_BYTES);
        assert!(is_kept(&lists, "63") && !is_kept(&lists, "0"), "the oldest make room");
    }

    #[test]
    fn lists_are_bounded_in_number() {
        let lists = Lists::new();
        for n in 0..MAX_CUSTOMERS + 5 {
            keep(&lists, &n.to_string(), "[]".into());
            if n % 2 == 0 {
                lists.forget_customer(&tenant("acme"), &n.to_string());
            }
        }
        let kept = lists.kept();
        assert!(kept.lists.len() <= MAX_CUSTOMERS && kept.ages.len() <= MAX_CUSTOMERS);
    }
}
