//! Services that call other services. A credential identifies the service and lists what it may do.

use std::collections::BTreeSet;

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use envelope::{Cause, CorrelationId};

use super::caller::{bearer, current_cause, unknown_key};
use super::identity::Identity;
use super::keys::{Keys, Meaning};
use super::problem::Problem;

/// Source and grants of a service's credential: `/source:grant+grant`. A grant is an event type
/// that the service may send, or an act of a route, such as `acknowledge`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Grant {
    pub(super) source: String,
    grants: BTreeSet<String>,
}

/// A text that is not of the form `/source:grant+grant`.
#[derive(Debug, thiserror::Error)]
#[error("expected a source, a colon, and grants separated by +")]
pub(crate) struct NoGrant;

impl TryFrom<String> for Grant {
    type Error = NoGrant;

    fn try_from(text: String) -> Result<Self, NoGrant> {
        let (source, grants) = text.rsplit_once(':').ok_or(NoGrant)?;
        let grants: BTreeSet<_> = grants.split('+').map(str::to_owned).collect();
        if source.is_empty() || grants.iter().any(String::is_empty) {
            return Err(NoGrant);
        }
        Ok(Self { source: source.to_owned(), grants })
    }
}

impl Meaning for Grant {
    const FORM: &'static str = "/source:grant+grant";
    const SETTING: &'static str = "EVENT_SENDERS";
}

/// Credentials of the calling services, with their grants.
pub(crate) type Senders = Keys<Grant>;

/// A calling service. As an extractor it fails with 401 for all other callers, including tenants.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The service, as in the `source` of its events: `/warehouse`.
    pub source: String,
    /// Correlation id of the request.
    pub correlation_id: CorrelationId,
    grants: BTreeSet<String>,
}

impl Peer {
    /// Returns the cause of the events and jobs that the request creates.
    pub fn cause(&self) -> Cause {
        current_cause(self.correlation_id.clone())
    }

    /// Checks that the service's credential grants this act.
    ///
    /// # Errors
    /// Fails with 403 if it does not.
    pub fn require(&self, act: &str) -> Result<(), Problem> {
        if self.grants.contains(act) {
            return Ok(());
        }
        let detail =
            format!("this credential does not grant {act}; EVENT_SENDERS lists its grants");
        Err(Problem::new(StatusCode::FORBIDDEN, "Forbidden", detail))
    }

    /// Returns `true` if the service may send events of this type and source.
    pub(crate) fn may_send(&self, event_type: &str, source: &str) -> bool {
        self.source == source && self.grants.contains(event_type)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Peer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let wanted = "send the credential of a service";
        bearer(&parts.headers).ok_or_else(|| unknown_key("the key is missing", wanted))?;
        let identity = parts.extensions.get::<Identity>();
        let grant = identity.and_then(|identity| identity.service.clone());
        let Grant { source, grants } =
            grant.ok_or_else(|| unknown_key("the key is unknown", wanted))?;
        let correlation_id = parts.extensions.get::<CorrelationId>().cloned();
        let correlation_id = correlation_id.unwrap_or_else(CorrelationId::generate);
        Ok(Self { source, correlation_id, grants })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::keys::digest;

    #[test]
    fn a_grant_has_a_source_and_types() {
        let senders = Senders::read("k=/warehouse:parcel.packed+parcel.shipped").expect("a list");
        let grant = senders.of_digest(&digest("k")).expect("a grant");
        assert_eq!(grant.source, "/warehouse");
        assert!(grant.grants.contains("parcel.shipped"));
        for wrong in ["k=/order", "k=:parcel.packed", "k=/warehouse:", "k=/warehouse:a++b"] {
            let error = Senders::read(wrong).expect_err(wrong).to_string();
            assert!(
                error.starts_with("entry 1 is not of the form key=/source:grant+grant"),
                "{error}"
            );
        }
    }
}
