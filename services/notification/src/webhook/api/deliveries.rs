//! What a tenant's webhooks were told, and are told again.

use axum::Json as Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use chassis::{
    Answer, Caller, Cursor, Empty, IdempotencyKey, Limit, Page, Path, Problem, Query, Submission,
};
use events::OrderId;
use serde::{Deserialize, Serialize};
use serde_json::json;
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::super::delivery_list::{self, Delivery, Filter, Status};
use super::super::redelivery::{self, MAX_AT_ONCE};
use super::{WebhookApi, enabled_webhook, not_enqueued};
use crate::change::{Begun, Change};

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    /// Only those of this webhook.
    webhook_id: Option<Uuid>,
    /// Only those of this order.
    #[param(value_type = Option<Uuid>)]
    order_id: Option<OrderId>,
    /// Only those that stand so.
    #[param(inline)]
    status: Option<Status>,
    #[serde(default)]
    #[param(inline)]
    limit: Limit,
    /// The `next_cursor` of the page before.
    #[param(inline)]
    cursor: Option<Cursor>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Deliveries {
    deliveries: Vec<Delivery>,
    next_cursor: Option<Cursor>,
}

/// Lists deliveries
#[utoipa::path(
    get,
    path = "/deliveries",
    operation_id = "list_deliveries",
    tag = "deliveries",
    params(ListQuery),
    responses((status = 200, description = "Deliveries, newest first", body = Deliveries)),
)]
pub(super) async fn list(
    State(api): State<WebhookApi>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Body<Deliveries>, Problem> {
    let ListQuery { webhook_id, order_id, status, limit, cursor } = query;
    let (filter, below) = (Filter { webhook_id, order_id, status }, Cursor::below(cursor));
    let (pool, tenant) = (&api.parts.pool, &caller.tenant);
    let deliveries = delivery_list::list(pool, tenant, &filter, below, limit.rows()).await?;
    let Page { rows: deliveries, next_cursor } = Page::new(deliveries, limit, |it| it.id);
    Ok(Body(Deliveries { deliveries, next_cursor }))
}

/// Returns a delivery with its attempts
#[utoipa::path(
    get,
    path = "/deliveries/{id}",
    operation_id = "read_delivery",
    tag = "deliveries",
    params(("id" = Uuid, Path, description = "Id of the delivery")),
    responses((status = 200, description = "The delivery", body = Delivery)),
)]
pub(super) async fn show(
    State(api): State<WebhookApi>,
    caller: Caller,
    Path(id): Path<Uuid>,
) -> Result<Body<Delivery>, Problem> {
    delivery(&api, &caller, id).await.map(Body)
}

async fn delivery(api: &WebhookApi, caller: &Caller, id: Uuid) -> Result<Delivery, Problem> {
    let found = delivery_list::find(&api.parts.pool, &caller.tenant, id).await?;
    found.ok_or_else(|| Problem::not_found(format!("there is no delivery {id}")))
}

/// Describes the response to a delivery that was asked for.
#[derive(ToSchema)]
#[expect(dead_code, reason = "never made as a whole")]
struct Accepted {
    /// Id of the delivery.
    id: Uuid,
    #[schema(pattern = "^waiting$")]
    status: String,
}

/// Describes the response to many deliveries that were asked for.
#[derive(ToSchema)]
#[expect(dead_code, reason = "never made as a whole")]
struct Redelivered {
    /// Number of deliveries.
    redelivered: i64,
    /// Whether to ask again, for the rest.
    has_more: bool,
}

/// Sends a test to a webhook
///
/// A delivery of type `webhook.test`.
#[utoipa::path(
    post,
    path = "/webhooks/{id}/test",
    operation_id = "test_webhook",
    tag = "webhooks",
    params(("id" = Uuid, Path, description = "Id of the webhook"), IdempotencyKey),
    request_body = Option<Empty>,
    responses((status = 202, description = "The delivery is on its way", body = Accepted, headers(("Location" = String, description = "Path of the delivery")))),
)]
pub(super) async fn test(
    State(api): State<WebhookApi>,
    caller: Caller,
    Path(id): Path<Uuid>,
    Submission { body: (), key }: Submission<()>,
) -> Result<Answer, Problem> {
    let mut change = match Change::begin(&api.parts.pool, &caller, key.as_ref()).await? {
        Begun::New(change) => change,
        Begun::Repeated(answer) => return Ok(answer),
    };
    let webhook = enabled_webhook(change.tx(), &caller, id).await?;
    let made = redelivery::test(change.tx(), &caller.tenant, id, &webhook.url).await;
    accepted(&api, change, made.map_err(not_enqueued)?).await
}

/// Delivers once more
///
/// Under the same `webhook-id`, also what was delivered.
#[utoipa::path(
    post,
    path = "/deliveries/{id}/redeliver",
    operation_id = "redeliver",
    tag = "deliveries",
    params(("id" = Uuid, Path, description = "Id of the delivery"), IdempotencyKey),
    request_body = Option<Empty>,
    responses((status = 202, description = "The delivery is on its way", body = Accepted, headers(("Location" = String, description = "Path of the delivery")))),
)]
pub(super) async fn redeliver(
    State(api): State<WebhookApi>,
    caller: Caller,
    Path(id): Path<Uuid>,
    Submission { body: (), key }: Submission<()>,
) -> Result<Answer, Problem> {
    let before = delivery(&api, &caller, id).await?;
    let mut change = match Change::begin(&api.parts.pool, &caller, key.as_ref()).await? {
        Begun::New(change) => change,
        Begun::Repeated(answer) => return Ok(answer),
    };
    enabled_webhook(change.tx(), &caller, before.webhook_id).await?;
    let again = redelivery::redeliver(change.tx(), &caller.tenant, id).await;
    if !again.map_err(not_enqueued)? {
        return Err(Problem::conflict(
            "what was delivered is erased, as its customer asked for it",
        ));
    }
    accepted(&api, change, id).await
}

/// Commits and wakes the workers.
async fn accepted(api: &WebhookApi, change: Change<'_>, id: Uuid) -> Result<Answer, Problem> {
    let answer = Answer::new(StatusCode::ACCEPTED, json!({ "id": id, "status": "waiting" }));
    let answer = change.commit(answer.header(&header::LOCATION, format!("/deliveries/{id}"))).await;
    api.parts.jobs.wake();
    answer
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Since {
    #[serde(with = "time::serde::rfc3339")]
    since: OffsetDateTime,
}

/// Delivers what has failed or is held since a time
#[utoipa::path(
    post,
    path = "/webhooks/{id}/redeliver",
    operation_id = "redeliver_since",
    tag = "webhooks",
    params(("id" = Uuid, Path, description = "Id of the webhook"), IdempotencyKey),
    request_body = Since,
    responses((status = 202, description = "The deliveries are on their way", body = Redelivered)),
)]
pub(super) async fn redeliver_since(
    State(api): State<WebhookApi>,
    caller: Caller,
    Path(id): Path<Uuid>,
    Submission { body: Since { since }, key }: Submission<Since>,
) -> Result<Answer, Problem> {
    let mut change = match Change::begin(&api.parts.pool, &caller, key.as_ref()).await? {
        Begun::New(change) => change,
        Begun::Repeated(answer) => return Ok(answer),
    };
    let webhook = enabled_webhook(change.tx(), &caller, id).await?;
    let redelivered = redelivery::redeliver_since(change.tx(), webhook.id, since).await;
    let redelivered = redelivered.map_err(not_enqueued)?;
    let body = json!({ "redelivered": redelivered, "has_more": redelivered >= MAX_AT_ONCE });
    let answer = change.commit(Answer::new(StatusCode::ACCEPTED, body)).await;
    api.parts.jobs.wake();
    answer
}
