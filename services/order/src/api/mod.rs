//! The routes of the public API, and what they do.

mod body;
mod cancel;
mod list;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use chassis::{
    Answer, Caller, ETag, Empty, IdempotencyKey, IdempotencyRow, IfMatch, Json, Parts, Path,
    Problem, Submission,
};
use defer::Defer;
use envelope::{Event, NewEvent};
use events::OrderId;
use outbox::Prepared;
use time::OffsetDateTime;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::body::{NewOrder, OrderBody, OrderChange, answer};
use crate::config::Cancellation;
use crate::direct::{self, Done};
use crate::downstream::Downstream;
use crate::list_memory::ListMemory;
use crate::lists::Lists;
use crate::order::{Closed, Order, Violations};
use crate::{deferred, store};

/// How often a change is attempted anew because another request changed the order meanwhile.
const ATTEMPTS: usize = 5;

/// State of the routes. Clones share it.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) parts: Parts,
    pub(crate) downstream: Downstream,
    pub(crate) lists: Lists,
    pub(crate) list_memory: ListMemory,
    pub(crate) cancellation: Cancellation,
}

/// Builds the routes of the public API.
pub(crate) fn routes(
    parts: Parts,
    downstream: Downstream,
    cancellation: Cancellation,
) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(place, list::list))
        .routes(routes!(read, update))
        .routes(routes!(complete))
        .routes(routes!(cancel::cancel))
        .with_state(Api {
            parts,
            downstream,
            lists: Lists::new(),
            list_memory: ListMemory::new(),
            cancellation,
        })
}

/// Places an order
///
/// With `complete` it is completed at once.
#[utoipa::path(
    post,
    path = "/orders",
    operation_id = "place_order",
    tag = "orders",
    params(IdempotencyKey),
    request_body = NewOrder,
    responses(
        (
            status = 201,
            description = "The order",
            body = OrderBody<'static>,
            headers(
                ("ETag" = String, description = "Version of the order"),
                ("Location" = String, description = "Path of the order"),
            ),
        ),
        (status = 502, description = "The order is completed, and a service that `ORDER_DIRECT` names was not told"),
    ),
)]
async fn place(
    State(api): State<Api>,
    caller: Caller,
    defer: Defer,
    Submission { body, key }: Submission<NewOrder>,
) -> Result<Answer, Problem> {
    let (complete, now) = (body.complete, now());
    let draft = body.into_draft();
    let (mut order, created) = draft.place(caller.tenant.clone(), now, caller.cause())?;
    let mut events = vec![prepare(created)?];
    if complete {
        let (completed_order, completed) = order.complete(now, caller.cause())?;
        events.push(prepare(completed)?);
        order = completed_order;
    }
    let answer = answer(StatusCode::CREATED, &order)?
        .header(&LOCATION, format!("/orders/{}", order.state.order_id));
    let row = key.as_ref().map(|key| key.row(&caller.tenant, &answer));
    let written = store::insert(&api.parts.pool, &order, row.as_ref(), &events).await;
    // Before the response, so that its caller reads what it has written; also if it is not known whether it is written.
    api.lists.forget(&[&order]);
    if let Err(error) = written {
        return earlier(&api, &caller, key.as_ref(), error).await;
    }
    api.parts.wake.wake();
    deferred::placed(&api, &defer, &caller, &order);
    if complete && let Some(completed) = events.last() {
        direct::tell(&api.downstream, &caller, Done::Completed, completed).await?;
    }
    Ok(answer)
}

/// Changes an open order
#[utoipa::path(
    patch,
    path = "/orders/{id}",
    operation_id = "update_order",
    tag = "orders",
    params(
        ("id" = Uuid, Path, description = "Id of the order"),
        ("If-Match" = String, Header, description = "`ETag` of the version to change, or `*`"),
    ),
    request_body = OrderChange,
    responses((
        status = 200,
        description = "The changed order",
        body = OrderBody<'static>,
        headers(("ETag" = String, description = "Version of the order")),
    )),
)]
async fn update(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<OrderId>,
    if_match: IfMatch,
    Json(body): Json<OrderChange>,
) -> Result<Answer, Problem> {
    let change = body.into_draft().check()?;
    for _ in 0..ATTEMPTS {
        let before = find(&api, &caller, id).await?;
        // That the order is closed comes first: with the right version it could not be changed either
        // (RFC 9110, 13.2.1).
        let (order, updated) = before.clone().update(change.clone(), caller.cause())?;
        if_match.check(&etag(&before))?;
        let answer = answer(StatusCode::OK, &order)?;
        let written = store::replace(&api.parts.pool, &order, None, &[prepare(updated)?]).await;
        api.lists.forget(&[&before, &order]);
        if written? {
            api.parts.wake.wake();
            return Ok(answer);
        }
    }
    Err(overtaken())
}

/// Completes an order
///
/// A second time changes nothing and answers the same.
#[utoipa::path(
    post,
    path = "/orders/{id}/complete",
    operation_id = "complete_order",
    tag = "orders",
    params(
        ("id" = Uuid, Path, description = "Id of the order"),
        ("If-Match" = Option<String>, Header, description = "`ETag` of the version that was seen, or `*`"),
        IdempotencyKey,
    ),
    request_body = Option<Empty>,
    responses(
        (
            status = 200,
            description = "The completed order",
            body = OrderBody<'static>,
            headers(("ETag" = String, description = "Version of the order")),
        ),
        (status = 502, description = "The order is completed, and a service that `ORDER_DIRECT` names was not told"),
    ),
)]
async fn complete(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<OrderId>,
    if_match: Option<IfMatch>,
    Submission { body: (), key }: Submission<()>,
) -> Result<Answer, Problem> {
    for _ in 0..ATTEMPTS {
        let order = find(&api, &caller, id).await?;
        if let Err(stale) = if_match.as_ref().map_or(Ok(()), |it| it.check(&etag(&order))) {
            return repeated(&api, &caller, key.as_ref()).await?.ok_or(stale);
        }
        let (order, event) = match order.clone().complete(now(), caller.cause()) {
            Ok((order, completed)) => (order, Some(prepare(completed)?)),
            Err(Closed::Completed) => (order, None),
            Err(Closed::Cancelled) => {
                let closed = repeated(&api, &caller, key.as_ref()).await?;
                return closed.ok_or_else(|| Closed::Cancelled.into());
            }
        };
        let answer = answer(StatusCode::OK, &order)?;
        let row = key.as_ref().map(|key| key.row(&caller.tenant, &answer));
        match write(&api, &order, event.as_ref(), row.as_ref()).await {
            Ok(true) => {
                if let Some(completed) = &event {
                    direct::tell(&api.downstream, &caller, Done::Completed, completed).await?;
                }
                return Ok(answer);
            }
            Ok(false) => {}
            Err(error) => return earlier(&api, &caller, key.as_ref(), error).await,
        }
    }
    Err(overtaken())
}

/// Returns an order
#[utoipa::path(
    get,
    path = "/orders/{id}",
    operation_id = "read_order",
    tag = "orders",
    params(
        ("id" = Uuid, Path, description = "Id of the order"),
        ("If-None-Match" = Option<String>, Header, description = "`ETag` of the version that the caller has"),
    ),
    responses(
        (
            status = 200,
            description = "The order",
            body = OrderBody<'static>,
            headers(("ETag" = String, description = "Version of the order")),
        ),
        (
            status = 304,
            description = "The caller has this version",
            headers(("ETag" = String, description = "Version of the order")),
        ),
    ),
)]
async fn read(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<OrderId>,
) -> Result<Answer, Problem> {
    answer(StatusCode::OK, &find(&api, &caller, id).await?)
}

async fn find(api: &Api, caller: &Caller, id: OrderId) -> Result<Order, Problem> {
    let order = store::find(&api.parts.pool, &caller.tenant, id).await?;
    order.ok_or_else(|| Problem::not_found(format!("there is no order {id}")))
}

/// Writes the next version of an order with its event, or, if nothing changed, only the answer for the key. Returns `false`
/// if another request changed the order meanwhile.
async fn write(
    api: &Api,
    order: &Order,
    event: Option<&Prepared>,
    key: Option<&IdempotencyRow<'_>>,
) -> sqlx::Result<bool> {
    let pool = &api.parts.pool;
    let written = match (event, key) {
        (Some(event), key) => store::replace(pool, order, key, std::slice::from_ref(event)).await,
        // Nothing to change; but the key is used, and must not be given to another request.
        (None, Some(key)) => store::keep(pool, key).await.map(|()| true),
        (None, None) => Ok(true),
    };
    // Before the response, so that its caller reads what it has written; also if it is not known whether it is written.
    api.lists.forget(&[order]);
    if event.is_some() && matches!(written, Ok(true)) {
        api.parts.wake.wake();
    }
    written
}

/// Returns the answer to the same request, if it was sent before: then it, or a later one, has changed the
/// order since.
async fn repeated(
    api: &Api,
    caller: &Caller,
    key: Option<&IdempotencyKey>,
) -> Result<Option<Answer>, Problem> {
    match key {
        Some(key) => key.earlier(&api.parts.pool, &caller.tenant).await,
        None => Ok(None),
    }
}

/// Returns the `ETag` of an order: its version.
fn etag(order: &Order) -> ETag {
    ETag::of_version(order.version)
}

/// Returns the answer that was stored for the key if that is why the statement failed, and the error otherwise.
async fn earlier(
    api: &Api,
    caller: &Caller,
    key: Option<&IdempotencyKey>,
    error: sqlx::Error,
) -> Result<Answer, Problem> {
    match key {
        Some(key) if IdempotencyKey::is_taken(&error) => {
            let earlier = key.earlier(&api.parts.pool, &caller.tenant).await?;
            // Pruned between the two statements.
            earlier.ok_or_else(|| {
                Problem::conflict("this Idempotency-Key has just expired; try again")
            })
        }
        _ => Err(error.into()),
    }
}

/// Checks an event against its schema. A violation is our fault: the rules of orders are at least as strict.
fn prepare<E: Event>(message: NewEvent<E>) -> Result<Prepared, Problem> {
    outbox::prepare(message).map_err(Problem::internal)
}

/// Returns the time in the precision of Postgres, so that row and event have the same.
fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc().truncate_to_microsecond()
}

fn overtaken() -> Problem {
    Problem::conflict("the order is being changed by many at once; try again")
}

impl From<Violations> for Problem {
    fn from(violations: Violations) -> Self {
        Self::unprocessable(violations.to_string())
    }
}

impl From<Closed> for Problem {
    fn from(closed: Closed) -> Self {
        Self::conflict(closed.to_string())
    }
}
