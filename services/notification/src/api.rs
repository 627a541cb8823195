use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{delete, get, post};
use axum::{Json as Body, Router};
use chassis::{Caller, Json, Parts, Path, Peer, Problem, Query};
use events::{Cause, OrderId, TenantId};
use jobs::EnqueueError;
use serde::{Deserialize, Serialize};
use telemetry::TraceContext;
use uuid::Uuid;

use crate::addresses::Guard;
use crate::deliveries::{self, Delivery};
use crate::letter::Letter;
use crate::store::{self, Email, Wanted};
use crate::webhooks::{self, EVENTS, Webhook};
use crate::{mailer, signature};

#[derive(Clone)]
struct Api {
    parts: Parts,
    guard: Guard,
}

pub(crate) fn routes(parts: &Parts, guard: Guard) -> Router {
    Router::new()
        .route("/emails", get(emails_of_order))
        .route("/acknowledgements", post(acknowledge))
        .route("/webhooks", post(register).get(registered))
        .route("/webhooks/{id}", delete(unregister))
        .route("/deliveries", get(deliveries_of_order))
        .with_state(Api { parts: parts.clone(), guard })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfOrder {
    order_id: OrderId,
}

#[derive(Serialize)]
struct Emails {
    emails: Vec<Email>,
}

async fn emails_of_order(
    State(api): State<Api>,
    caller: Caller,
    Query(query): Query<OfOrder>,
) -> Result<Body<Emails>, Problem> {
    let emails = store::of_order(&api.parts.pool, &caller.tenant, query.order_id).await?;
    Ok(Body(Emails { emails }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Acknowledgement {
    order_id: OrderId,
    tenant_id: TenantId,
    customer_email: String,
    currency: String,
    total: i64,
}

/// `POST /acknowledgements`: the order service has taken an order. Told twice, it is one e-mail.
async fn acknowledge(
    State(api): State<Api>,
    peer: Peer,
    Json(told): Json<Acknowledgement>,
) -> Result<StatusCode, Problem> {
    mailer::address(&told.customer_email)
        .map_err(|error| Problem::unprocessable(format!("customer_email: {error}")))?;
    let Acknowledgement { order_id, tenant_id, customer_email, currency, total } = told;
    let wanted = Wanted {
        order_id,
        tenant_id: &tenant_id,
        letter: Letter::acknowledgement(order_id, &customer_email, &currency, total),
        message_id: store::acknowledgement_id(order_id),
        cause: Cause {
            correlation_id: peer.correlation_id,
            causation_id: None,
            traceparent: TraceContext::current().map(|context| context.traceparent),
        },
    };
    let mut tx = api.parts.pool.begin().await?;
    store::write(&mut tx, &[wanted]).await.map_err(|error| match error {
        EnqueueError::Database(error) => error.into(),
        error => Problem::internal(error),
    })?;
    tx.commit().await?;
    api.parts.jobs.wake();
    Ok(StatusCode::ACCEPTED)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewWebhook {
    url: String,
    /// None: all.
    events: Option<Vec<String>>,
}

/// The only answer that has the secret.
#[derive(Serialize)]
struct Registered {
    #[serde(flatten)]
    webhook: Webhook,
    secret: String,
}

async fn register(
    State(api): State<Api>,
    caller: Caller,
    Json(new): Json<NewWebhook>,
) -> Result<(StatusCode, Body<Registered>), Problem> {
    let events = new.events.unwrap_or_else(|| EVENTS.map(str::to_owned).to_vec());
    if events.is_empty() || events.iter().any(|event| !EVENTS.contains(&event.as_str())) {
        let known = EVENTS.join(" and ");
        return Err(Problem::unprocessable(format!("events: some of {known} are wanted")));
    }
    let url = webhooks::check(&new.url, &api.guard).await;
    let url = url.map_err(|error| Problem::unprocessable(format!("url: {error}")))?;
    let secret = signature::new_secret().map_err(Problem::internal)?;
    let webhook = webhooks::insert(&api.parts.pool, &caller.tenant, &url, &events, &secret).await?;
    let webhook =
        webhook.ok_or_else(|| Problem::conflict("there are 20 webhooks already; delete one"))?;
    Ok((StatusCode::CREATED, Body(Registered { webhook, secret })))
}

#[derive(Serialize)]
struct Webhooks {
    webhooks: Vec<Webhook>,
}

async fn registered(State(api): State<Api>, caller: Caller) -> Result<Body<Webhooks>, Problem> {
    let webhooks = webhooks::of_tenant(&api.parts.pool, &caller.tenant).await?;
    Ok(Body(Webhooks { webhooks }))
}

async fn unregister(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<Uuid>,
) -> Result<StatusCode, Problem> {
    if webhooks::delete(&api.parts.pool, &caller.tenant, id).await? {
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(Problem::not_found(format!("there is no webhook {id}")))
}

#[derive(Serialize)]
struct Deliveries {
    deliveries: Vec<Delivery>,
}

async fn deliveries_of_order(
    State(api): State<Api>,
    caller: Caller,
    Query(query): Query<OfOrder>,
) -> Result<Body<Deliveries>, Problem> {
    let deliveries = deliveries::of_order(&api.parts.pool, &caller.tenant, query.order_id).await?;
    Ok(Body(Deliveries { deliveries }))
}
