//! `POST /orders/{id}/cancel`

use axum::extract::State;
use chassis::{Answer, Caller, Empty, IdempotencyKey, IfMatch, Path, Problem, Submission};
use events::OrderId;

use super::body::OrderBody;
use super::{
    ATTEMPTS, Api, Written, etag, find, next_version, now, overtaken, prepare, repeated, unchanged,
};
use crate::config::Cancellation;
use crate::direct::{self, Done};

/// Cancels an order
///
/// Cancels an open or a completed order; billing credits the invoice of a completed one. Repeating
/// the request changes nothing and returns the same response.
#[utoipa::path(
    post,
    path = "/orders/{id}/cancel",
    operation_id = "cancel_order",
    tag = "orders",
    params(
        ("id" = Uuid, Path, description = "Id of the order"),
        ("If-Match" = Option<String>, Header, description = "`ETag` of the version to cancel, or `*`"),
        IdempotencyKey,
    ),
    request_body = Option<Empty>,
    responses(
        (
            status = 200,
            description = "The cancelled order",
            body = OrderBody<'static>,
            headers(("ETag" = String, description = "Version of the order")),
        ),
        (status = 502, description = "The order is cancelled, but the call of a service in `ORDER_DIRECT` failed"),
    ),
)]
pub(super) async fn cancel(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<OrderId>,
    if_match: Option<IfMatch>,
    Submission { body: (), key }: Submission<()>,
) -> Result<Answer, Problem> {
    for _ in 0..ATTEMPTS {
        let before = find(&api, &caller, id).await?;
        if let Err(stale) = if_match.as_ref().map_or(Ok(()), |it| it.check(&etag(&before))) {
            return repeated(&api, &caller, key.as_ref()).await?.ok_or(stale);
        }
        let (order, event) = match before.clone().cancel(now(), caller.cause()) {
            Some(_) if api.cancellation == Cancellation::Off => return Err(switched_off()),
            Some((order, cancelled)) => (order, prepare(cancelled)?),
            None => return unchanged(&api, &caller, key.as_ref(), &before).await,
        };
        match next_version(&api, &caller, order, event, key.as_ref()).await? {
            Written::Now(change) => {
                if let [cancelled] = &*change.events {
                    direct::call_consumers(&api.downstream, &caller, Done::Cancelled, cancelled)
                        .await?;
                }
                return Ok(change.answer);
            }
            Written::Earlier(answer) => return Ok(answer),
            Written::Overtaken => {}
        }
    }
    Err(overtaken())
}

fn switched_off() -> Problem {
    Problem::conflict("orders can't be cancelled, because CANCELLATION is off")
}
