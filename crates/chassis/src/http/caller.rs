use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use envelope::{Cause, CorrelationId, TenantId};
use telemetry::TraceContext;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::identity::Identity;
use super::problem::Problem;

/// The tenant of a request and the flow that the request belongs to. As an extractor it fails with
/// 401 if the API key is missing or unknown.
///
/// ```
/// use axum::{Router, routing::get};
/// use chassis::Caller;
/// # async fn render(tenant: &str) -> String { tenant.to_owned() }
///
/// async fn report(caller: Caller) -> String {
///     tokio::select! {
///         report = render(caller.tenant.as_str()) => report,
///         () = caller.disconnected() => String::new(), // no response can be sent
///     }
/// }
///
/// let routes: Router = Router::new().route("/report", get(report));
/// ```
#[derive(Clone, Debug)]
pub struct Caller {
    /// Tenant whose data the request is about.
    pub tenant: TenantId,
    /// Correlation id that the caller sent, or a new one.
    pub correlation_id: CorrelationId,
    disconnect: DisconnectSignal,
}

/// Signals that the caller no longer waits for the response. Clones belong to the same request.
#[derive(Clone, Debug, Default)]
pub(super) struct DisconnectSignal(CancellationToken);

impl DisconnectSignal {
    /// Returns a guard that gives the signal when it is dropped.
    pub(super) fn when_dropped(self) -> DropGuard {
        self.0.drop_guard()
    }
}

impl Caller {
    /// Waits until the caller no longer waits for the response: the connection was closed, or the
    /// request timed out. The handler keeps running, but should not begin further work.
    pub async fn disconnected(&self) {
        self.disconnect.0.cancelled().await;
    }

    /// Returns the cause of the events that the request publishes.
    pub fn cause(&self) -> Cause {
        current_cause(self.correlation_id.clone())
    }
}

/// Returns the cause for events and jobs created in the current span.
pub(super) fn current_cause(correlation_id: CorrelationId) -> Cause {
    let context = TraceContext::current();
    let (traceparent, tracestate) =
        context.map(|context| (context.traceparent, context.tracestate)).unzip();
    Cause { traceparent, tracestate: tracestate.flatten(), ..Cause::new(correlation_id) }
}

/// Returns the bearer token of a request. The scheme has no case (RFC 9110, section 11.1).
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, key) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

/// Creates a 401. `what` says what is wrong, and `wanted` which key to send.
pub(super) fn unknown_key(what: &str, wanted: &str) -> Problem {
    Problem::unauthorized(format!("{what}; {wanted} as Authorization: Bearer <key>"))
        .with_header(header::WWW_AUTHENTICATE, "Bearer")
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let wanted = "send your API key";
        bearer(&parts.headers).ok_or_else(|| unknown_key("the API key is missing", wanted))?;
        let identity = parts.extensions.get::<Identity>();
        let tenant = identity
            .and_then(|identity| identity.tenant.clone())
            .ok_or_else(|| unknown_key("the API key is unknown", wanted))?;
        let correlation_id = parts.extensions.get::<CorrelationId>().cloned();
        let correlation_id = correlation_id.unwrap_or_else(CorrelationId::generate);
        let disconnect = parts.extensions.get::<DisconnectSignal>().cloned().unwrap_or_default();
        Ok(Self { tenant, correlation_id, disconnect })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_has_no_case() {
        let token = |value: &str| {
            let value = value.parse().expect("a value");
            bearer(&HeaderMap::from_iter([(header::AUTHORIZATION, value)])).map(str::to_owned)
        };
        for given in ["Bearer t", "bearer t", "BEARER  t", "bEARER t "] {
            assert_eq!(token(given).as_deref(), Some("t"), "{given}");
        }
        assert_eq!(["Basic t", "t", "Bearer"].map(token), [None, None, None]);
    }
}
