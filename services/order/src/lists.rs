//! Cache of customers' order lists, as the bytes of their responses, for some seconds.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use chassis::Limit;
use envelope::TenantId;

use crate::order::Order;

/// How long a list is served without a query. A change by another instance is visible after this
/// time at the latest.
const KEPT: Duration = Duration::from_secs(3);
/// Maximum bytes of all lists. The oldest are evicted.
const MAX_BYTES: usize = 8 * 1024 * 1024;
/// Maximum bytes of one list. Longer lists are not cached, since a few of them would leave no room
/// for others.
const MAX_LIST_BYTES: usize = MAX_BYTES / 16;
/// Maximum number of customers with a cached list, expired ones included. The oldest are evicted.
const MAX_CUSTOMERS: usize = 10_000;
/// Number of invalidation counters. Customers share them by hash, so that a counter takes no memory
/// per customer.
const COUNTERS: usize = 1024;

type Customer = (TenantId, String);

/// Cached first pages, by customer. Clones share them.
#[derive(Clone)]
pub(crate) struct Lists {
    shared: Arc<Shared>,
}

struct Shared {
    kept: Mutex<Kept>,
    hasher: RandomState,
    /// Number of invalidations, by counter.
    forgotten: Vec<AtomicU64>,
}

/// A list that is being read. It is not cached if it was invalidated meanwhile.
pub(crate) struct Reading {
    customer: Customer,
    limit: Limit,
    forgotten: u64,
    /// The list may be as old as this.
    since: Instant,
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

    /// Returns the cached list, or a token to [store](Self::keep) it with once it has been read.
    pub(crate) fn get(
        &self,
        tenant: &TenantId,
        customer: &str,
        limit: Limit,
    ) -> Result<Bytes, Reading> {
        let customer = (tenant.clone(), customer.to_owned());
        let forgotten = self.counter(&customer).load(Ordering::Acquire);
        let list = self.kept().get(&customer, limit);
        list.ok_or_else(|| Reading { customer, limit, forgotten, since: Instant::now() })
    }

    /// Stores a list that was read, unless it was invalidated meanwhile.
    pub(crate) fn keep(&self, reading: Reading, list: Bytes) {
        let Reading { customer, limit, forgotten, since } = reading;
        let mut kept = self.kept();
        // Checked under the lock that `forget` takes after it has counted: either the count is seen
        // here, or `forget` removes this list.
        if self.counter(&customer).load(Ordering::Acquire) == forgotten {
            kept.insert(customer, List { limit, since, text: list });
        }
    }

    /// Invalidates the lists of the customers of these orders. The next request for one reads the
    /// database.
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

/// The cached lists, within the limits.
#[derive(Default)]
struct Kept {
    lists: HashMap<Customer, List>,
    /// When reading each list began, in the order in which they were stored. Includes lists that
    /// were invalidated or replaced since.
    ages: VecDeque<(Instant, Customer)>,
    bytes: usize,
}

impl Kept {
    fn get(&mut self, customer: &Customer, limit: Limit) -> Option<Bytes> {
        // Expired lists are removed here too. Otherwise they would keep their memory until the next
        // list is stored.
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

    /// Returns `true` if the oldest list has to be evicted: it has expired, or there are too many.
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
    fn the_age_of_a_list_counts_from_the_beginning_of_its_reading() {
        let lists = Lists::new();
        let mut reading = lists.get(&tenant("acme"), "ada", limit(20)).expect_err("nothing yet");
        reading.since -= KEPT.saturating_sub(Duration::from_millis(200));
        lists.keep(reading, "[]".into());
        assert!(is_kept(&lists, "ada"));
        std::thread::sleep(Duration::from_millis(200));
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
