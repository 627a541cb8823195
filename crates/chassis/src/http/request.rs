//! The layer around every request of the public API: its correlation id, span, log line, metrics
//! and problem.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::HttpBody;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use defer::Defer;
use envelope::{CorrelationId, TenantId};
use futures::FutureExt;
use telemetry::instruments::{Histogram, Meter};
use telemetry::{FlowSteps, KeyValue, TraceContext};
use tracing::{Instrument, Span, field};

use super::caller::DisconnectSignal;
use super::content_tag;
use super::etag::IfNoneMatch;
use super::exchange::RequestResources;
use super::identity::Identity;
use super::keys::Tenants;
use super::limits::{Limiter, RequestSlot, TenantLimits};
use super::memory::{ByteBudget, HeldBytes, Payer};
use super::metered::{HeldBody, meter};
use super::method::{OTHER, in_span_name, known_method};
use super::peer::Senders;
use super::problem::Problem;
use super::shares::SMALL;

pub(super) const CORRELATION_ID: &str = "x-correlation-id";
/// Maximum number of characters of a path that are logged and stored.
const MAX_PATH_CHARS: usize = 200;
/// Maximum length of a `tracestate`.
const MAX_TRACESTATE_BYTES: usize = 512;
/// Maximum bytes of an invalid correlation id that are logged.
const MAX_LOGGED_BYTES: usize = 128;
/// Bytes that a request reserves before its response is known: about those of a small response with
/// its buffers.
const RESERVED: usize = SMALL;
/// Maximum time until a response; longer than the limits of all parts.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// A request that was answered.
#[derive(Clone, Debug)]
pub struct CompletedRequest {
    /// Tenant of the caller. `None` for a service or an unknown caller.
    pub tenant: Option<TenantId>,
    /// Source of the calling service. `None` for a tenant or an unknown caller.
    pub service: Option<String>,
    /// Correlation id of the flow that the request belonged to.
    pub correlation_id: CorrelationId,
    /// Method, such as `POST`, or `_OTHER` if it is unknown.
    pub method: &'static str,
    /// Route, such as `/orders/{id}`. `None` if no route matched.
    pub route: Option<String>,
    /// Path as requested, without the query, at most 200 characters of it.
    pub path: String,
    /// Status of the response.
    pub status: StatusCode,
    /// Time from the request's headers to the response's.
    pub took: Duration,
}

impl CompletedRequest {
    /// Returns `false` if the request had no key, or an unknown one. Do not store such requests:
    /// anybody can send any number.
    pub fn is_of_known_caller(&self) -> bool {
        self.tenant.is_some() || self.service.is_some()
    }
}

/// Hook that is called for every request, to defer work about it.
pub(crate) type OnCompleted = Arc<dyn Fn(&Defer, &CompletedRequest) + Send + Sync>;

/// State of the layer.
pub(crate) struct RequestLayer {
    tenants: Tenants,
    senders: Senders,
    limiter: Arc<Limiter>,
    responses: ByteBudget,
    bodies: ByteBudget,
    duration: Histogram<f64>,
    on_completed: Option<OnCompleted>,
    steps: FlowSteps,
}

impl RequestLayer {
    /// Creates the layer. `on_completed` is called for every request. Responses in flight take at
    /// most `memory` bytes, and bodies of requests half as many.
    pub(crate) fn new(
        (tenants, senders): (Tenants, Senders),
        memory: usize,
        meter: &Meter,
        on_completed: Option<OnCompleted>,
    ) -> Self {
        let duration = meter
            .f64_histogram("http.server.request.duration")
            .with_unit("s")
            .with_description("Time from the request's headers to the response's")
            .with_boundaries(vec![
                0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
            ])
            .build();
        let limiter = Arc::new(Limiter::new(TenantLimits::default()));
        Self {
            tenants,
            senders,
            limiter,
            responses: ByteBudget::new(memory),
            bodies: ByteBudget::new(memory / 2),
            duration,
            on_completed,
            steps: FlowSteps::off(),
        }
    }

    /// Sets the limits of each tenant.
    pub(crate) fn tenant_limits(mut self, limits: TenantLimits) -> Self {
        self.limiter = Arc::new(Limiter::new(limits));
        self
    }

    /// Records each request as a step of its flow.
    pub(crate) fn flow_steps(mut self, steps: FlowSteps) -> Self {
        self.steps = steps;
        self
    }

    /// Wraps all routes of the public API, and answers requests for unknown paths and methods.
    pub(crate) fn wrap(self, routes: Router) -> Router {
        routes
            .fallback(async || Problem::not_found("there is no resource at this path"))
            .method_not_allowed_fallback(async || Problem::method_not_allowed())
            .layer(middleware::from_fn_with_state(Arc::new(self), serve))
    }

    /// Records the duration of the request, and calls the hook that defers work. Recording takes
    /// less time than deferring it would.
    fn after(&self, defer: &Defer, served: &CompletedRequest) {
        let labels = [
            KeyValue::new("http.request.method", served.method),
            KeyValue::new("http.route", served.route.clone().unwrap_or_default()),
            KeyValue::new("http.response.status_code", i64::from(served.status.as_u16())),
        ];
        self.duration.record(served.took.as_secs_f64(), &labels);
        if let Some(on_completed) = &self.on_completed {
            on_completed(defer, served);
        }
    }
}

/// A request before it is handled.
struct IncomingRequest {
    correlation_id: CorrelationId,
    /// Correlation id that was sent and is invalid.
    unusable: Option<String>,
    identity: Identity,
    method: &'static str,
    route: Option<String>,
    path: String,
}

impl IncomingRequest {
    fn new(layer: &RequestLayer, request: &Request) -> Self {
        let (correlation_id, unusable) = correlation_id(request.headers());
        let route = request.extensions().get::<MatchedPath>();
        Self {
            correlation_id,
            unusable,
            identity: Identity::of(request.headers(), &layer.tenants, &layer.senders),
            method: known_method(request.method()),
            route: route.map(|path| path.as_str().to_owned()),
            path: request.uri().path().chars().take(MAX_PATH_CHARS).collect(),
        }
    }

    /// Creates the span, which is a step of its flow unless the caller is unknown.
    fn span(&self, steps: &FlowSteps, headers: &HeaderMap) -> Span {
        let span = if self.identity.is_known() {
            steps.span(|| self.unconnected_span())
        } else {
            self.unconnected_span()
        };
        // A request without a known key starts a new trace: otherwise anybody could force sampling,
        // and add to others' traces.
        if self.identity.is_known() {
            set_parent(&span, headers);
        }
        span
    }

    /// Returns the path for the span. Without a known key it is the route, since spans are stored.
    fn exported_path(&self) -> &str {
        if self.identity.is_known() { &self.path } else { self.route.as_deref().unwrap_or(OTHER) }
    }

    fn unconnected_span(&self) -> Span {
        let route = self.route.as_deref().unwrap_or("no route");
        tracing::info_span!(
            "request",
            otel.name = format!("{} {route}", in_span_name(self.method)),
            otel.kind = "server",
            otel.status_code = field::Empty,
            http.request.method = self.method,
            http.route = route,
            http.response.status_code = field::Empty,
            url.path = self.exported_path(),
            correlation_id = self.correlation_id.as_str(),
            tenant_id = self.identity.tenant.as_ref().map(TenantId::as_str),
            error = field::Empty,
        )
    }

    /// Writes the log line.
    fn log(&self, status: StatusCode, took: Duration) {
        let ms = (took.as_secs_f64() * 10_000.0).round() / 10.0;
        let Self { method, path, .. } = self;
        let given_correlation_id = self.unusable.as_deref();
        tracing::info!(method, path, status = status.as_u16(), ms, given_correlation_id, "request");
    }

    fn completed(self, status: StatusCode, took: Duration) -> CompletedRequest {
        let Self { correlation_id, unusable: _, identity, method, route, path } = self;
        let Identity { tenant, service } = identity;
        let service = service.map(|grant| grant.source);
        CompletedRequest { tenant, service, correlation_id, method, route, path, status, took }
    }
}

async fn serve(
    State(layer): State<Arc<RequestLayer>>,
    mut request: Request,
    next: Next,
) -> Response {
    let began = Instant::now();
    let received = IncomingRequest::new(&layer, &request);
    let span = received.span(&layer.steps, request.headers());
    let defer = request.extensions().get::<Defer>().cloned();
    request.extensions_mut().insert(received.correlation_id.clone());
    request.extensions_mut().insert(received.identity.clone());

    let response = match layer.admit(&received.identity).await {
        Ok(admitted) => admitted.answer(&layer, request, next, &span).await,
        Err(problem) => problem.into_response(),
    };
    let detail = response.extensions().get::<Problem>().map(|it| it.detail().to_owned());
    let response = render(response, &received.correlation_id);

    let status = response.status();
    span.record("http.response.status_code", status.as_u16());
    if status.is_server_error() {
        span.record("otel.status_code", "ERROR");
        if let Some(detail) = detail {
            span.record("error", detail);
        }
    }
    let took = began.elapsed();
    span.in_scope(|| {
        received.log(status, took);
        if let Some(defer) = defer {
            layer.after(&defer, &received.completed(status, took));
        }
    });
    response
}

/// A request that may be handled.
struct Admitted {
    payer: Payer,
    slot: Option<Arc<RequestSlot>>,
    memory: HeldBytes,
}

impl RequestLayer {
    /// Admits a request within the limits of its tenant and the memory of responses. Waits up to 5
    /// s for memory.
    async fn admit(&self, identity: &Identity) -> Result<Admitted, Problem> {
        let slot = identity.tenant.as_ref().map(|tenant| self.limiter.admit(tenant));
        let slot = slot.transpose()?.map(Arc::new);
        let payer = Payer::of(identity);
        let mut memory = self.responses.hold(payer.clone());
        memory.resize(RESERVED).await?;
        Ok(Admitted { payer, slot, memory })
    }
}

impl Admitted {
    /// Handles the request. Its memory and slot in flight stay occupied until the response is
    /// sent.
    async fn answer(
        mut self,
        layer: &RequestLayer,
        request: Request,
        next: Next,
        span: &Span,
    ) -> Response {
        let known = IfNoneMatch::of(&request);
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        let (request, body) = meter(request, layer.bodies.hold(self.payer));
        let mut response = run(next, request, (self.slot.clone(), body), span).await;
        if is_read {
            response = known.answer(content_tag::tag(response).await);
        }
        let size = response.body().size_hint();
        let size = usize::try_from(size.exact().unwrap_or(size.lower())).unwrap_or(usize::MAX);
        if is_read {
            if let Err(no_room) = self.memory.resize(size.max(RESERVED)).await {
                return Problem::from(no_room).into_response();
            }
        } else {
            self.memory.force(size.max(RESERVED));
        }
        response.extensions_mut().insert(RequestResources::new(self.slot, self.memory));
        response
    }
}

/// Runs the handler. A closed connection does not cancel a change halfway, since
/// [`DeferLayer`](defer::DeferLayer) handles each request in a task of its own; the handler can
/// check `Caller::disconnected`. After the time limit it continues in the background. The shares
/// that the request `occupies` are also kept until the handler ends.
async fn run(
    next: Next,
    request: Request,
    occupies: (Option<Arc<RequestSlot>>, Option<HeldBody>),
    span: &Span,
) -> Response {
    let disconnect = request.extensions().get::<DisconnectSignal>().cloned();
    let handling = async move {
        let response = next.run(request).await;
        drop(occupies);
        response
    };
    let handling = AssertUnwindSafe(handling.instrument(span.clone())).catch_unwind();
    let mut handling = Box::pin(handling);
    match tokio::time::timeout(TIME_LIMIT, &mut handling).await {
        Ok(Ok(response)) => response,
        Ok(Err(panic)) => Problem::internal(Panicked::of(&*panic)).into_response(),
        Err(_) => {
            drop(disconnect.map(DisconnectSignal::when_dropped));
            tokio::spawn(handling);
            Problem::new(
                StatusCode::GATEWAY_TIMEOUT,
                "Gateway timeout",
                "the request timed out and may still be executed; read the resource, or repeat the request with the same Idempotency-Key",
            )
            .into_response()
        }
    }
}

/// A handler has panicked, with this message.
#[derive(Debug, thiserror::Error)]
#[error("the handler panicked: {0}")]
struct Panicked(String);

impl Panicked {
    fn of(panic: &(dyn Any + Send)) -> Self {
        let text = panic.downcast_ref::<&str>().map(ToString::to_string);
        Self(text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default())
    }
}

/// Renders the problem that a response carries, and adds the correlation id. An error response
/// without a body of ours, such as axum's own, gets a problem, too.
pub(crate) fn render(response: Response, correlation_id: &CorrelationId) -> Response {
    let problem = response.extensions().get::<Problem>().cloned();
    let mut response = match problem.or_else(|| Problem::of_bare_error(&response)) {
        Some(problem) => {
            let mut rendered = problem.render(correlation_id.as_str());
            if let Some(resources) = response.extensions().get::<RequestResources>() {
                rendered.extensions_mut().insert(resources.clone());
            }
            if let Some(allow) = response.headers().get(header::ALLOW) {
                rendered.headers_mut().insert(header::ALLOW, allow.clone());
            }
            rendered
        }
        None => response,
    };
    if let Ok(value) = HeaderValue::from_str(correlation_id.as_str()) {
        response.headers_mut().insert(CORRELATION_ID, value);
    }
    response
}

/// Returns the caller's correlation id, or a new one if it is missing or invalid: an id for tracing
/// must not fail a request. Returns an invalid one, too, in a form for the log.
fn correlation_id(headers: &HeaderMap) -> (CorrelationId, Option<String>) {
    let Some(given) = headers.get(CORRELATION_ID) else {
        return (CorrelationId::generate(), None);
    };
    match given.to_str().ok().and_then(|given| CorrelationId::new(given).ok()) {
        Some(id) => (id, None),
        None => (CorrelationId::generate(), Some(for_log(given))),
    }
}

/// Returns the beginning of a header's value, with control characters escaped.
fn for_log(value: &HeaderValue) -> String {
    let bytes = value.as_bytes();
    bytes[..bytes.len().min(MAX_LOGGED_BYTES)].escape_ascii().to_string()
}

/// Makes the span part of the caller's trace, if the request has a `traceparent`.
fn set_parent(span: &Span, headers: &HeaderMap) {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(traceparent) = text("traceparent") {
        // A longer one may be dropped (W3C Trace Context, section 3.3.1.5). It is copied to every
        // event of the request.
        let tracestate = text("tracestate").filter(|it| it.len() <= MAX_TRACESTATE_BYTES);
        TraceContext::new(traceparent, tracestate).set_parent(span);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stranger_chooses_neither_the_trace_nor_what_is_exported() {
        let _tracing = telemetry::init("chassis", telemetry::LogFormat::Silent);
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let parent = format!("00-{trace}-00f067aa0ba902b7-00").parse().expect("a value");
        let headers =
            HeaderMap::from_iter([(header::HeaderName::from_static("traceparent"), parent)]);
        let received = |tenant: Option<&str>, route: Option<&str>| {
            let tenant = tenant.map(|tenant| tenant.to_owned().try_into().expect("a tenant"));
            let received = IncomingRequest {
                correlation_id: CorrelationId::generate(),
                unusable: None,
                identity: Identity { tenant, service: None },
                method: "GET",
                route: route.map(str::to_owned),
                path: "/orders/ada@example.com".to_owned(),
            };
            let span = received.span(&FlowSteps::off(), &headers);
            let context = TraceContext::of(&span).expect("a trace").traceparent;
            (context, received.exported_path().to_owned())
        };
        let (context, path) = received(Some("acme"), Some("/orders/{id}"));
        assert!(context.contains(trace) && context.ends_with("-00"), "{context}");
        assert_eq!(path, "/orders/ada@example.com");
        for (route, exported) in [(Some("/orders/{id}"), "/orders/{id}"), (None, "_OTHER")] {
            let (context, path) = received(None, route);
            assert!(!context.contains(trace) && context.ends_with("-01"), "{context}");
            assert_eq!(path, exported);
        }
    }

    #[test]
    fn a_correlation_id_that_can_not_be_used_is_replaced_and_logged() {
        let read = |given: &[u8]| {
            let value = HeaderValue::from_bytes(given).expect("a value");
            correlation_id(&HeaderMap::from_iter([(
                CORRELATION_ID.parse().expect("a name"),
                value,
            )]))
        };
        let (id, given) = read(b"checkout-7");
        assert_eq!((id.as_str(), given), ("checkout-7", None));
        for (odd, logged) in [
            (&b"5c1e7d90#7"[..], "5c1e7d90#7"),
            (b"|7f3c.1.", "|7f3c.1."),
            (b"", ""),
            (b"a\tb\xff", "a\\tb\\xff"),
        ] {
            let (id, given) = read(odd);
            assert_eq!(given.as_deref(), Some(logged));
            assert!(CorrelationId::new(id.as_str()).is_ok() && id.as_str() != logged);
        }
        assert_eq!(read(&[b'x'; 2_000]).1.map(|it| it.len()), Some(MAX_LOGGED_BYTES));
    }
}
