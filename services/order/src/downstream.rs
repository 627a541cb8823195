//! HTTP client for the other services and for third parties.

use std::time::Duration;

use chassis::{Caller, Secret, binary_headers};
use outbox::Prepared;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, RequestBuilder, StatusCode, Url};
use serde::Serialize;
use serde_json::json;
use telemetry::TraceContext;
use time::format_description::well_known::Rfc3339;
use tracing::Instrument;

use crate::config;
use crate::order::Order;

/// A failed call.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error("{0} could not be reached")]
    Unreachable(&'static str, #[source] reqwest::Error),
    #[error("{0} answered {1}")]
    Refused(&'static str, StatusCode),
}

/// How long an idle connection is kept: shorter than the other services keep it
/// (`HTTP_KEEP_ALIVE`), so that a call never uses a connection that is being closed.
const IDLE: Duration = Duration::from_secs(30);

/// Calls other services. Clones share the connections. Callers set the time limits.
#[derive(Clone, Debug)]
pub(crate) struct Downstream {
    client: Client,
    addresses: config::Downstream,
}

/// The flow that a call belongs to.
#[derive(Clone, Debug)]
pub(crate) struct FlowId(String);

impl From<&Caller> for FlowId {
    fn from(caller: &Caller) -> Self {
        Self(caller.correlation_id.to_string())
    }
}

impl Downstream {
    pub(crate) fn new(addresses: config::Downstream) -> Self {
        // Other services are never reached through the HTTP proxy of the environment.
        let client = Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
        let client = client.pool_idle_timeout(IDLE);
        Self { client: client.build().unwrap_or_default(), addresses }
    }

    pub(crate) fn addresses(&self) -> &config::Downstream {
        &self.addresses
    }

    /// Requests an acknowledgement for the customer.
    pub(crate) async fn acknowledge(&self, order: &Order, flow: &FlowId) -> Result<(), CallError> {
        let Some(url) = &self.addresses.notification_url.0 else { return Ok(()) };
        let state = &order.state;
        let body = json!({
            "order_id": state.order_id,
            "tenant_id": state.tenant_id,
            "customer_email": state.customer_email,
            "currency": state.currency,
            "total": state.total,
        });
        self.post("notification", url, "/acknowledgements", &body, flow).await
    }

    /// Reports to analytics that an order was placed.
    pub(crate) async fn track(&self, order: &Order, flow: &FlowId) -> Result<(), CallError> {
        let Some(url) = &self.addresses.analytics_url.0 else { return Ok(()) };
        let state = &order.state;
        let body = json!({
            "event": "order_placed",
            "order_id": state.order_id,
            "tenant_id": state.tenant_id,
            "at": state.created_at.format(&Rfc3339).unwrap_or_default(),
        });
        self.post("analytics", url, "/track", &body, flow).await
    }

    /// Reports the sold items to the third party.
    pub(crate) async fn sync_inventory(
        &self,
        order: &Order,
        flow: &FlowId,
    ) -> Result<(), CallError> {
        let Some(url) = &self.addresses.inventory_url.0 else { return Ok(()) };
        let state = &order.state;
        let item = |item: &events::Item| json!({ "sku": item.sku, "quantity": item.quantity });
        let items: Vec<_> = state.items.iter().map(item).collect();
        let body = json!({ "order_id": state.order_id, "items": items });
        let request = self.client.post(at(url, "/inventory")).json(&body);
        call("inventory", request, flow).await
    }

    /// Sends an event to a consumer in CloudEvents' binary mode. The consumer responds once the
    /// event is processed and committed.
    pub(crate) async fn send(
        &self,
        consumer: config::Consumer,
        event: &Prepared,
        flow: &FlowId,
    ) -> Result<(), CallError> {
        let Some(url) = &consumer.address(&self.addresses).0 else { return Ok(()) };
        let request =
            self.client.post(at(url, "/events")).headers(binary_headers(event.envelope()));
        let request = self.as_ourselves(request).body(event.data().to_vec());
        call(consumer.name(), request, flow).await
    }

    async fn post(
        &self,
        service: &'static str,
        url: &Url,
        path: &str,
        body: &impl Serialize,
        flow: &FlowId,
    ) -> Result<(), CallError> {
        call(service, self.as_ourselves(self.client.post(at(url, path)).json(body)), flow).await
    }

    fn as_ourselves(&self, request: RequestBuilder) -> RequestBuilder {
        let key = self.addresses.service_key.as_ref().map(Secret::expose);
        request.bearer_auth(key.unwrap_or_default())
    }
}

fn at(url: &Url, path: &str) -> Url {
    let mut url = url.clone();
    url.set_path(path);
    url
}

async fn call(
    service: &'static str,
    request: RequestBuilder,
    flow: &FlowId,
) -> Result<(), CallError> {
    let span = tracing::info_span!(
        "call",
        otel.name = format!("POST {service}"),
        otel.kind = "client",
        whom = service
    );
    async {
        let unreachable = |error| CallError::Unreachable(service, error);
        let response = request.headers(flow_headers(flow)).send().await.map_err(unreachable)?;
        let status = response.status();
        if status.is_success() { Ok(()) } else { Err(CallError::Refused(service, status)) }
    }
    .instrument(span)
    .await
}

fn flow_headers(FlowId(flow): &FlowId) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut set = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    set("x-correlation-id", flow);
    if let Some(context) = TraceContext::current() {
        set("traceparent", &context.traceparent);
        if let Some(tracestate) = &context.tracestate {
            set("tracestate", tracestate);
        }
    }
    headers
}
