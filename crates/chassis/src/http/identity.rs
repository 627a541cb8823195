use axum::http::HeaderMap;
use envelope::TenantId;

use super::caller::bearer;
use super::keys::{Tenants, digest};
use super::peer::{Grant, Senders};

/// The owner of a request's key. The layer looks it up before a request is handled: requests
/// without a known key are not stored, and the limits of a tenant are checked first.
#[derive(Clone, Debug, Default)]
pub(super) struct Identity {
    /// Tenant whose API key it is.
    pub(super) tenant: Option<TenantId>,
    /// Grant of the service whose credential it is.
    pub(super) service: Option<Grant>,
}

impl Identity {
    /// Looks up the key of a request.
    pub(super) fn of(headers: &HeaderMap, tenants: &Tenants, senders: &Senders) -> Self {
        let Some(key) = bearer(headers) else { return Self::default() };
        let digest = digest(key);
        Self { tenant: tenants.of_digest(&digest), service: senders.of_digest(&digest) }
    }

    /// Returns `false` if the request has no key, or an unknown one.
    pub(super) fn is_known(&self) -> bool {
        self.tenant.is_some() || self.service.is_some()
    }
}
