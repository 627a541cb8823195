//! Routes of deliveries: listing, repeating and testing.

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
use super::super::redelivery::{self, Repeatable, Repeated};
use super::{WebhookApi, enabled_webhook, not_enqueued};
use crate::change;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    /// Returns only deliveries to this webhook.
    webhook_id: Option<Uuid>,
    /// Returns only deliveries about this order.
    #[param(value_type = Option<Uuid>)]
    order_id: Option<OrderId>,
    /// Returns only deliveries with this status.
    #[param(inline)]
    status: Option<Status>,
    #[serde(default)]
    #[param(inline)]
    limit: Limit,
    /// The `next_cursor` of the previous page.
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

/// A delivery that was enqueued.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only describes the response")]
struct Accepted {
    /// Id of the delivery.
    id: Uuid,
    #[schema(pattern = "^waiting$")]
    status: String,
}

/// The result of a repetition of many deliveries.
#[derive(ToSchema)]
#[schema(as = Redelivered)]
#[expect(dead_code, reason = "only describes the response")]
struct ManyAccepted {
    /// Number of deliveries that are repeated.
    redelivered: i64,
    /// Whether there are more; repeat the request with `cursor`.
    has_more: bool,
    /// The `cursor` of the next request.
    next_cursor: Option<Cursor>,
}

/// Sends a test delivery
///
/// The delivery has the type `webhook.test`.
#[utoipa::path(
    post,
    path = "/webhooks/{id}/test",
    operation_id = "test_webhook",
    tag = "webhooks",
    params(("id" = Uuid, Path, description = "Id of the webhook"), IdempotencyKey),
    request_body = Option<Empty>,
    responses((status = 202, description = "The delivery is enqueued", body = Accepted, headers(("Location" = String, description = "Path of the delivery")))),
)]
pub(super) async fn test(
    State(api): State<WebhookApi>,
    caller: Caller,
    Path(id): Path<Uuid>,
    Submission { body: (), key }: Submission<()>,
) -> Result<Answer, Problem> {
    let answer = change::once(&api.parts.pool, &caller, key.as_ref(), async |tx| {
        let webhook = enabled_webhook(&mut *tx, &caller, id).await?;
        let test = redelivery::test(tx, &caller.tenant, id, &webhook.url).await;
        accepted(test.map_err(not_enqueued)?)
    });
    waking(&api, answer).await
}

/// Repeats a delivery
///
/// The delivery keeps its `webhook-id`. One that was delivered already is sent again.
#[utoipa::path(
    post,
    path = "/deliveries/{id}/redeliver",
    operation_id = "redeliver",
    tag = "deliveries",
    params(("id" = Uuid, Path, description = "Id of the delivery"), IdempotencyKey),
    request_body = Option<Empty>,
    responses((status = 202, description = "The delivery is enqueued", body = Accepted, headers(("Location" = String, description = "Path of the delivery")))),
)]
pub(super) async fn redeliver(
    State(api): State<WebhookApi>,
    caller: Caller,
    Path(id): Path<Uuid>,
    Submission { body: (), key }: Submission<()>,
) -> Result<Answer, Problem> {
    let before = delivery(&api, &caller, id).await?;
    let answer = change::once(&api.parts.pool, &caller, key.as_ref(), async |tx| {
        enabled_webhook(&mut *tx, &caller, before.webhook_id).await?;
        let again = redelivery::redeliver(tx, &caller.tenant, id).await;
        if !again.map_err(not_enqueued)? {
            return Err(Problem::conflict(
                "the content of the delivery was erased at the customer's request",
            ));
        }
        accepted(id)
    });
    waking(&api, answer).await
}

fn accepted(id: Uuid) -> Result<Answer, Problem> {
    let answer = Answer::new(StatusCode::ACCEPTED, &json!({ "id": id, "status": "waiting" }))?;
    Ok(answer.header(&header::LOCATION, format!("/deliveries/{id}")))
}

/// Wakes the workers after a change is committed.
async fn waking(
    api: &WebhookApi,
    change: impl Future<Output = Result<Answer, Problem>>,
) -> Result<Answer, Problem> {
    let answer = change.await;
    api.parts.jobs.wake();
    answer
}

#[derive(Deserialize, ToSchema)]
#[schema(as = Since)]
#[serde(deny_unknown_fields)]
pub(super) struct Selection {
    #[serde(with = "time::serde::rfc3339")]
    since: OffsetDateTime,
    /// States of the deliveries to repeat. By default `failed` and `held`.
    #[schema(min_items = 1)]
    state: Option<Vec<Repeatable>>,
    /// The `next_cursor` of the previous request.
    cursor: Option<Cursor>,
}

impl Selection {
    fn states(&self) -> Result<&[Repeatable], Problem> {
        match self.state.as_deref() {
            None => Ok(&Repeatable::DEFAULT),
            Some([]) => Err(Problem::unprocessable(
                "state must list one or more of failed, held, delivered",
            )),
            Some(states) => Ok(states),
        }
    }
}

/// Repeats the deliveries since a time
///
/// By default repeats those that have failed or are held; `state` may add delivered ones.
#[utoipa::path(
    post,
    path = "/webhooks/{id}/redeliver",
    operation_id = "redeliver_since",
    tag = "webhooks",
    params(("id" = Uuid, Path, description = "Id of the webhook"), IdempotencyKey),
    request_body = Selection,
    responses((status = 202, description = "The deliveries are enqueued", body = ManyAccepted)),
)]
pub(super) async fn redeliver_since(
    State(api): State<WebhookApi>,
    caller: Caller,
    Path(id): Path<Uuid>,
    Submission { body, key }: Submission<Selection>,
) -> Result<Answer, Problem> {
    let states = body.states()?;
    let after = Cursor::above(body.cursor);
    let answer = change::once(&api.parts.pool, &caller, key.as_ref(), async |tx| {
        let webhook = enabled_webhook(&mut *tx, &caller, id).await?;
        let again = redelivery::redeliver_since(tx, webhook.id, body.since, states, after).await;
        let Repeated { count, last } = again.map_err(not_enqueued)?;
        let (has_more, next_cursor) = (last.is_some(), last.map(Cursor::at));
        let body =
            json!({ "redelivered": count, "has_more": has_more, "next_cursor": next_cursor });
        Answer::new(StatusCode::ACCEPTED, &body)
    });
    waking(&api, answer).await
}
