//! Services that ask other services: by a credential that says who they are and which events they may send.

use std::collections::BTreeSet;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use events::CorrelationId;

use crate::flow::{bearer, unknown_key};
use crate::keys::{Keys, Meaning};
use crate::problem::Problem;

/// What a service's credential stands for: `/source:type+type`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Grant {
    source: String,
    event_types: BTreeSet<String>,
}

/// A text that grants nothing.
#[derive(Debug, thiserror::Error)]
#[error("a source, a colon and event types with a + between them are wanted")]
pub(crate) struct NoGrant;

impl TryFrom<String> for Grant {
    type Error = NoGrant;

    fn try_from(text: String) -> Result<Self, NoGrant> {
        let (source, event_types) = text.rsplit_once(':').ok_or(NoGrant)?;
        let event_types: BTreeSet<_> = event_types.split('+').map(str::to_owned).collect();
        if source.is_empty() || event_types.iter().any(String::is_empty) {
            return Err(NoGrant);
        }
        Ok(Self { source: source.to_owned(), event_types })
    }
}

impl Meaning for Grant {
    const FORM: &'static str = "/source:type+type";
}

/// Which services may ask, and send which events.
pub(crate) type Senders = Keys<Grant>;

/// Another service that asks. An extractor: 401 for everybody else, tenants included.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Who it is, as in the `source` of its events: `/order`.
    pub source: String,
    /// The flow that the request belongs to.
    pub correlation_id: CorrelationId,
    event_types: BTreeSet<String>,
}

impl Peer {
    /// Whether it may send such an event.
    pub(crate) fn may_say(&self, event_type: &str, source: &str) -> bool {
        self.source == source && self.event_types.contains(event_type)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Peer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let wanted = "send the credential of a service";
        let key = bearer(&parts.headers).ok_or_else(|| unknown_key("there is no key", wanted))?;
        let senders = parts.extensions.get::<Senders>();
        let grant = senders.and_then(|senders| senders.of_key(key));
        let Grant { source, event_types } =
            grant.ok_or_else(|| unknown_key("nobody has this key", wanted))?;
        let correlation_id = parts.extensions.get::<CorrelationId>().cloned();
        let correlation_id = correlation_id.unwrap_or_else(CorrelationId::generate);
        Ok(Self { source, correlation_id, event_types })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_has_a_source_and_types() {
        let senders = Senders::read("k=/order:order.created+order.completed").expect("a list");
        let grant = senders.of_key("k").expect("a grant");
        assert_eq!(grant.source, "/order");
        assert!(grant.event_types.contains("order.completed"));
        for wrong in ["k=/order", "k=:order.created", "k=/order:", "k=/order:a++b"] {
            let error = Senders::read(wrong).expect_err(wrong).to_string();
            assert!(
                error.starts_with("entry 1 is not of the form key=/source:type+type"),
                "{error}"
            );
        }
    }
}
