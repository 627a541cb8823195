//! The outermost layers of a request: its correlation id, its span, its line in the log, its problem.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use defer::Defer;
use events::{Cause, CorrelationId, TenantId};
use telemetry::instruments::{Histogram, Meter};
use telemetry::{KeyValue, TraceContext};
use tracing::{Instrument, Span, field};

use crate::keys::Tenants;
use crate::peer::Senders;
use crate::problem::Problem;

const CORRELATION_ID: &str = "x-correlation-id";
/// How long a caller is kept waiting; above all limits of the parts.
const LONGEST: Duration = Duration::from_secs(30);

/// A request that was answered.
#[derive(Clone, Debug)]
pub struct Served {
    /// Who asked; none: nobody whom we know, or a service.
    pub tenant: Option<TenantId>,
    /// The flow that it belonged to.
    pub correlation_id: CorrelationId,
    /// `POST`
    pub method: Method,
    /// `/orders/{id}`; none: there is nothing at the path.
    pub route: Option<String>,
    /// As it was asked for, without the query.
    pub path: String,
    /// As it was answered.
    pub status: StatusCode,
    /// From the request's headers to the response's.
    pub took: Duration,
}

/// Is told of every request, and defers what there is to do about it.
pub(crate) type OnServed = Arc<dyn Fn(&Defer, &Served) + Send + Sync>;

/// What the layer needs.
#[derive(Clone)]
pub(crate) struct Flow {
    tenants: Tenants,
    senders: Senders,
    duration: Histogram<f64>,
    on_served: Option<OnServed>,
}

impl Flow {
    pub(crate) fn new(
        tenants: Tenants,
        senders: Senders,
        meter: &Meter,
        on_served: Option<OnServed>,
    ) -> Self {
        let duration = meter
            .f64_histogram("http.server.request.duration")
            .with_unit("s")
            .with_description("Time from the request's headers to the response's")
            .with_boundaries(vec![
                0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
            ])
            .build();
        Self { tenants, senders, duration, on_served }
    }

    /// What nobody waits for.
    fn after(&self, defer: &Defer, served: &Served) {
        let duration = self.duration.clone();
        let took = served.took.as_secs_f64();
        let labels = [
            KeyValue::new("http.request.method", served.method.to_string()),
            KeyValue::new("http.route", served.route.clone().unwrap_or_default()),
            KeyValue::new("http.response.status_code", i64::from(served.status.as_u16())),
        ];
        let record = async move { duration.record(took, &labels) };
        defer.run("request metrics", record).always();
        if let Some(on_served) = &self.on_served {
            on_served(defer, served);
        }
    }
}

/// Where the extractor of the caller leaves who that is.
#[derive(Clone, Default)]
struct Asker(Arc<OnceLock<TenantId>>);

/// Runs a request. The handler runs in a task of its own, so that a caller who hangs up does not cancel a
/// change halfway.
pub(crate) async fn serve(State(flow): State<Flow>, mut request: Request, next: Next) -> Response {
    let began = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let path = request.uri().path().to_owned();
    let (correlation_id, refused) = correlation_id(request.headers());
    let span = span(
        &method,
        route.as_deref().unwrap_or("no route"),
        &path,
        request.headers(),
        &correlation_id,
    );

    let asker = Asker::default();
    let defer = request.extensions().get::<Defer>().cloned();
    request.extensions_mut().insert(correlation_id.clone());
    request.extensions_mut().insert(flow.tenants.clone());
    request.extensions_mut().insert(flow.senders.clone());
    request.extensions_mut().insert(asker.clone());
    let response = if let Some(problem) = refused {
        problem.into_response()
    } else {
        let handler = tokio::spawn(next.run(request).instrument(span.clone()));
        match tokio::time::timeout(LONGEST, handler).await {
            Ok(Ok(response)) => response,
            Ok(Err(panic)) => Problem::internal(panic).into_response(),
            Err(_) => too_long().into_response(),
        }
    };
    let mut response = match response.extensions().get::<Problem>() {
        Some(problem) => {
            let mut rendered = problem.render(correlation_id.as_str());
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

    let status = response.status();
    span.record("http.response.status_code", status.as_u16());
    if status.is_server_error() {
        span.record("otel.status_code", "ERROR");
    }
    let took = began.elapsed();
    let ms = (took.as_secs_f64() * 10_000.0).round() / 10.0;
    span.in_scope(|| {
        tracing::info!(%method, path, status = status.as_u16(), ms, "request");
        let tenant = asker.0.get().cloned();
        if let Some(defer) = defer {
            let served = Served { tenant, correlation_id, method, route, path, status, took };
            flow.after(&defer, &served);
        }
    });
    response
}

fn too_long() -> Problem {
    Problem::new(
        StatusCode::GATEWAY_TIMEOUT,
        "Too slow",
        "this took too long and may still be done; ask for it, or send it again with the same Idempotency-Key",
    )
}

/// The caller's id, or a new one: if there is none, or if it is odd, which is also a problem.
fn correlation_id(headers: &HeaderMap) -> (CorrelationId, Option<Problem>) {
    let Some(given) = headers.get(CORRELATION_ID) else {
        return (CorrelationId::generate(), None);
    };
    let given = given.to_str().unwrap_or_default();
    match CorrelationId::new(given) {
        Ok(id) => (id, None),
        Err(error) => {
            let problem = Problem::bad_request(format!("{CORRELATION_ID}: {error}"));
            (CorrelationId::generate(), Some(problem))
        }
    }
}

fn span(
    method: &Method,
    route: &str,
    path: &str,
    headers: &HeaderMap,
    correlation_id: &CorrelationId,
) -> Span {
    let span = tracing::info_span!(
        "request",
        otel.name = format!("{method} {route}"),
        otel.kind = "server",
        otel.status_code = field::Empty,
        http.request.method = %method,
        http.route = route,
        http.response.status_code = field::Empty,
        url.path = path,
        correlation_id = correlation_id.as_str(),
        tenant_id = field::Empty,
    );
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(traceparent) = text("traceparent") {
        TraceContext::new(traceparent, text("tracestate")).set_parent(&span);
    }
    span
}

/// Who asks, and in which flow. An extractor: without a known API key the request ends with 401.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Whose data the request is about.
    pub tenant: TenantId,
    /// The flow that it belongs to or begins.
    pub correlation_id: CorrelationId,
}

impl Caller {
    /// For the events that the request causes.
    pub fn cause(&self) -> Cause {
        Cause {
            correlation_id: self.correlation_id.clone(),
            causation_id: None,
            traceparent: TraceContext::current().map(|context| context.traceparent),
        }
    }
}

/// The key that a request shows.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, key) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

/// 401, with what is wrong and what is wanted.
pub(crate) fn unknown_key(what: &str, wanted: &str) -> Problem {
    Problem::unauthorized(format!("{what}; {wanted} as Authorization: Bearer <key>"))
        .with_header(header::WWW_AUTHENTICATE, "Bearer")
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let wanted = "send your API key";
        let key = bearer(&parts.headers);
        let key = key.ok_or_else(|| unknown_key("there is no API key", wanted))?;
        let tenants = parts.extensions.get::<Tenants>();
        let tenant = tenants
            .and_then(|tenants| tenants.of_key(key))
            .ok_or_else(|| unknown_key("nobody has this API key", wanted))?;
        let correlation_id = parts.extensions.get::<CorrelationId>().cloned();
        Span::current().record("tenant_id", tenant.as_str());
        if let Some(asker) = parts.extensions.get::<Asker>() {
            let _ = asker.0.set(tenant.clone());
        }
        Ok(Self { tenant, correlation_id: correlation_id.unwrap_or_else(CorrelationId::generate) })
    }
}
