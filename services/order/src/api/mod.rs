//! Routes of the public API and their handlers.

mod body;
mod cancel;
mod list;

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use chassis::{
    Answer, Caller, ETag, Empty, IdempotencyKey, IfMatch, Json, Parts, Path, Problem, Submission,
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
use crate::group_commit::Writer;
use crate::list_memory::ListMemory;
use crate::lists::Lists;
use crate::order::{Closed, Order, Violations};
use crate::store::{Change, ChangeOutcome};
use crate::{deferred, store};

/// Maximum number of attempts of a change when other requests change the order concurrently.
const ATTEMPTS: usize = 5;

/// State of the routes. Clones share it.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) parts: Parts,
    pub(crate) writer: Writer,
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
            writer: Writer::new(&parts),
            parts,
            downstream,
            lists: Lists::new(),
            list_memory: ListMemory::new(),
            cancellation,
        })
}

/// Places an order
///
/// With `complete` the order is completed at once.
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
        (status = 502, description = "The order is completed, but the call of a service in `ORDER_DIRECT` failed"),
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
    let change = Change { order, is_new: true, events, answer, key };
    let change = match write(&api, &caller, change).await? {
        Written::Now(change) => change,
        Written::Earlier(answer) => return Ok(answer),
        Written::Overtaken => return Err(overtaken()),
    };
    deferred::placed(&api, &defer, &caller, &change.order);
    if complete && let Some(completed) = change.events.last() {
        direct::call_consumers(&api.downstream, &caller, Done::Completed, completed).await?;
    }
    Ok(change.answer)
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
        // A closed order is reported before a stale version, because the request would fail with
        // the right version too (RFC 9110, 13.2.1).
        let (order, updated) = before.clone().update(change.clone(), caller.cause())?;
        if_match.check(&etag(&before))?;
        let answer = answer(StatusCode::OK, &order)?;
        let events = vec![prepare(updated)?];
        let change = Change { order, is_new: false, events, answer, key: None };
        let written = write(&api, &caller, change).await;
        api.lists.forget(&[&before]);
        match written? {
            Written::Now(change) => return Ok(change.answer),
            Written::Earlier(answer) => return Ok(answer),
            Written::Overtaken => {}
        }
    }
    Err(overtaken())
}

/// Completes an order
///
/// Repeating the request changes nothing and returns the same response.
#[utoipa::path(
    post,
    path = "/orders/{id}/complete",
    operation_id = "complete_order",
    tag = "orders",
    params(
        ("id" = Uuid, Path, description = "Id of the order"),
        ("If-Match" = Option<String>, Header, description = "`ETag` of the version to complete, or `*`"),
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
        (status = 502, description = "The order is completed, but the call of a service in `ORDER_DIRECT` failed"),
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
            Ok((order, completed)) => (order, prepare(completed)?),
            Err(Closed::Completed) => return unchanged(&api, &caller, key.as_ref(), &order).await,
            Err(Closed::Cancelled) => {
                let closed = repeated(&api, &caller, key.as_ref()).await?;
                return closed.ok_or_else(|| Closed::Cancelled.into());
            }
        };
        match next_version(&api, &caller, order, event, key.as_ref()).await? {
            Written::Now(change) => {
                if let [completed] = &*change.events {
                    direct::call_consumers(&api.downstream, &caller, Done::Completed, completed)
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

/// Returns an order
#[utoipa::path(
    get,
    path = "/orders/{id}",
    operation_id = "read_order",
    tag = "orders",
    params(
        ("id" = Uuid, Path, description = "Id of the order"),
        ("If-None-Match" = Option<String>, Header, description = "`ETag` of the caller's copy"),
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
            description = "The caller's copy is current",
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

/// Result of a change.
enum Written {
    /// The change is written.
    Now(Box<Change>),
    /// An earlier request with the same key was answered with this.
    Earlier(Answer),
    /// Another request changed the order concurrently. Nothing is written.
    Overtaken,
}

async fn write(api: &Api, caller: &Caller, change: Change) -> Result<Written, Problem> {
    let change = Arc::new(change);
    let written = api.writer.write(Arc::clone(&change), caller.disconnected()).await;
    // Before the response is sent, so that the caller reads its own write; also after an error,
    // which may leave the result unknown.
    api.lists.forget(&[&change.order]);
    match written? {
        ChangeOutcome::Written => Ok(Written::Now(Box::new(Arc::unwrap_or_clone(change)))),
        ChangeOutcome::KeyTaken => {
            earlier(api, caller, change.key.as_ref()).await.map(Written::Earlier)
        }
        ChangeOutcome::Overtaken => Ok(Written::Overtaken),
    }
}

/// Writes the next version of an order with its event.
async fn next_version(
    api: &Api,
    caller: &Caller,
    order: Order,
    event: Prepared,
    key: Option<&IdempotencyKey>,
) -> Result<Written, Problem> {
    let answer = answer(StatusCode::OK, &order)?;
    let change = Change { order, is_new: false, events: vec![event], answer, key: key.cloned() };
    write(api, caller, change).await
}

/// Answers a request that changes nothing. Its key is stored all the same, so that another request
/// can't use it.
async fn unchanged(
    api: &Api,
    caller: &Caller,
    key: Option<&IdempotencyKey>,
    order: &Order,
) -> Result<Answer, Problem> {
    let answer = answer(StatusCode::OK, order)?;
    let Some(key) = key else { return Ok(answer) };
    match store::keep(&api.parts.pool, &key.row(&caller.tenant, &answer)).await {
        Ok(()) => Ok(answer),
        Err(error) if IdempotencyKey::is_taken(&error) => earlier(api, caller, Some(key)).await,
        Err(error) => Err(error.into()),
    }
}

/// Returns the stored answer if this request was sent before: that request, or a later one, has
/// since changed the order.
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

/// Returns the answer stored for a key that is already used.
async fn earlier(
    api: &Api,
    caller: &Caller,
    key: Option<&IdempotencyKey>,
) -> Result<Answer, Problem> {
    repeated(api, caller, key).await?.ok_or_else(|| {
        // The key was pruned between the two statements.
        Problem::conflict("this Idempotency-Key has just expired; try again")
    })
}

/// Checks an event against its schema. A violation is a bug in this service, because the rules for
/// orders are at least as strict as the schema.
fn prepare<E: Event>(message: NewEvent<E>) -> Result<Prepared, Problem> {
    outbox::prepare(message).map_err(Problem::internal)
}

/// Returns the current time in the precision of Postgres, so that the row and the event agree.
fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc().truncate_to_microsecond()
}

fn overtaken() -> Problem {
    Problem::conflict("concurrent requests are changing the order; try again")
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
