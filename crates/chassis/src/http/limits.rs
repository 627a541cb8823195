//! Limits of each tenant, so that one tenant's load does not affect the others.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::StatusCode;
use envelope::TenantId;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::problem::Problem;

/// Limits of each tenant at one instance. `None` sets no limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct TenantLimits {
    /// Requests per second, on average.
    pub(crate) per_second: Option<NonZeroU32>,
    /// Requests that may arrive at once after a quiet period. Defaults to the requests of a second.
    pub(crate) burst: Option<NonZeroU32>,
    /// Concurrent requests.
    pub(crate) in_flight: Option<NonZeroU32>,
}

/// Counts the requests of the tenants against the limits. Only known tenants are counted, so their
/// number is bounded.
pub(super) struct Limiter {
    limits: TenantLimits,
    tenants: Mutex<HashMap<TenantId, Arc<Counts>>>,
    clock: DefaultClock,
}

/// A slot of a request in flight. Dropping it frees the slot.
#[derive(Debug, Default)]
pub(super) struct RequestSlot {
    _in_flight: Option<OwnedSemaphorePermit>,
}

struct Counts {
    rate: Option<DefaultDirectRateLimiter>,
    in_flight: Option<Arc<Semaphore>>,
}

impl TenantLimits {
    fn counts(self) -> Counts {
        let rate = self.per_second.map(|per_second| {
            let quota = Quota::per_second(per_second).allow_burst(self.burst.unwrap_or(per_second));
            DefaultDirectRateLimiter::direct(quota)
        });
        let in_flight = self.in_flight.map(|places| {
            let places = usize::try_from(places.get()).unwrap_or(Semaphore::MAX_PERMITS);
            Arc::new(Semaphore::new(places))
        });
        Counts { rate, in_flight }
    }
}

impl Limiter {
    pub(super) fn new(limits: TenantLimits) -> Self {
        Self { limits, tenants: Mutex::default(), clock: DefaultClock::default() }
    }

    /// Admits a request of a tenant. Fails with 429 and `Retry-After` above the tenant's limits.
    pub(super) fn admit(&self, tenant: &TenantId) -> Result<RequestSlot, Problem> {
        if self.limits == TenantLimits::default() {
            return Ok(RequestSlot::default());
        }
        let counts = self.of(tenant);
        let in_flight = match &counts.in_flight {
            Some(places) => {
                let slot = Arc::clone(places).try_acquire_owned();
                Some(slot.map_err(|_| self.too_many_in_flight())?)
            }
            None => None,
        };
        if let Some(Err(until)) = counts.rate.as_ref().map(DefaultDirectRateLimiter::check) {
            let wait = until.wait_time_from(self.clock.now());
            // Rounded up to whole seconds, so that a retry is never too early.
            return Err(self.too_fast(wait.as_secs() + 1));
        }
        Ok(RequestSlot { _in_flight: in_flight })
    }

    fn of(&self, tenant: &TenantId) -> Arc<Counts> {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(counts) = tenants.get(tenant) {
            return Arc::clone(counts);
        }
        let counts = Arc::new(self.limits.counts());
        tenants.insert(tenant.clone(), Arc::clone(&counts));
        counts
    }

    fn too_many_in_flight(&self) -> Problem {
        let limit = self.limits.in_flight.map_or(0, NonZeroU32::get);
        let detail =
            format!("the tenant's limit is {limit} requests in flight; wait until one has ended");
        too_many(detail, 1)
    }

    fn too_fast(&self, seconds: u64) -> Problem {
        let limit = self.limits.per_second.map_or(0, NonZeroU32::get);
        too_many(format!("the tenant's limit is {limit} requests per second; send fewer"), seconds)
    }
}

fn too_many(detail: String, seconds: u64) -> Problem {
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "Too many requests", detail).retry_after(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str) -> TenantId {
        TenantId::new(name).expect("a tenant")
    }

    fn limiter(per_second: u32, burst: u32, in_flight: u32) -> Limiter {
        Limiter::new(TenantLimits {
            per_second: NonZeroU32::new(per_second),
            burst: NonZeroU32::new(burst),
            in_flight: NonZeroU32::new(in_flight),
        })
    }

    #[test]
    fn each_tenant_has_limits_of_its_own() {
        let (acme, globex) = (tenant("acme"), tenant("globex"));
        let fast = limiter(1, 3, 0);
        let admitted = (0..10).filter(|_| fast.admit(&acme).is_ok()).count();
        assert_eq!(admitted, 3);
        assert!(fast.admit(&globex).is_ok());

        let wide = limiter(0, 0, 2);
        let places = [wide.admit(&acme).expect("a slot"), wide.admit(&acme).expect("a slot")];
        assert_eq!(wide.admit(&acme).expect_err("full").status(), StatusCode::TOO_MANY_REQUESTS);
        assert!(wide.admit(&globex).is_ok());
        drop(places);
        assert!(wide.admit(&acme).is_ok());
    }

    #[test]
    fn without_limits_nothing_is_counted() {
        let limiter = limiter(0, 0, 0);
        assert!((0..1_000).all(|_| limiter.admit(&tenant("acme")).is_ok()));
        assert!(limiter.tenants.lock().expect("not poisoned").is_empty());
    }
}
