use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{delete, get, post};
use axum::{Json as Body, Router};
use chassis::{Caller, Json, Path, Problem, Query};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use uuid::Uuid;

use super::addresses::Guard;
use super::deliveries::{self, Delivery};
use super::webhooks::{self, EVENTS, Webhook};
use crate::api::OrderQuery;

#[derive(Clone)]
struct Api {
    pool: PgPool,
    guard: Guard,
}

/// Builds the routes of webhooks and deliveries.
pub(crate) fn routes(pool: PgPool, guard: Guard) -> Router {
    Router::new()
        .route("/webhooks", post(register).get(list))
        .route("/webhooks/{id}", delete(unregister))
        .route("/deliveries", get(list_deliveries))
        .with_state(Api { pool, guard })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewWebhook {
    url: String,
    /// `None` subscribes to every event.
    events: Option<Vec<String>>,
}

/// The only response that shows the secret.
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
        let known = EVENTS.join(", ");
        return Err(Problem::unprocessable(format!("events: some of {known} are wanted")));
    }
    let url = webhooks::check(&new.url, &api.guard).await;
    let url = url.map_err(|error| Problem::unprocessable(format!("url: {error}")))?;
    let secret = signature::new_secret().map_err(Problem::internal)?;
    let webhook = webhooks::insert(&api.pool, &caller.tenant, &url, &events, &secret).await?;
    let webhook =
        webhook.ok_or_else(|| Problem::conflict("there are 20 webhooks already; delete one"))?;
    Ok((StatusCode::CREATED, Body(Registered { webhook, secret })))
}

#[derive(Serialize)]
struct Webhooks {
    webhooks: Vec<Webhook>,
}

async fn list(State(api): State<Api>, caller: Caller) -> Result<Body<Webhooks>, Problem> {
    let webhooks = webhooks::of_tenant(&api.pool, &caller.tenant).await?;
    Ok(Body(Webhooks { webhooks }))
}

async fn unregister(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<Uuid>,
) -> Result<StatusCode, Problem> {
    if webhooks::delete(&api.pool, &caller.tenant, id).await? {
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(Problem::not_found(format!("there is no webhook {id}")))
}

#[derive(Serialize)]
struct Deliveries {
    deliveries: Vec<Delivery>,
}

async fn list_deliveries(
    State(api): State<Api>,
    caller: Caller,
    Query(query): Query<OrderQuery>,
) -> Result<Body<Deliveries>, Problem> {
    let deliveries = deliveries::of_order(&api.pool, &caller.tenant, query.order_id).await?;
    Ok(Body(Deliveries { deliveries }))
}
