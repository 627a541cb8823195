//! What the routes do, and the bodies they take and give.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{ETAG, LOCATION};
use axum::response::{IntoResponse, Response};
use chassis::{Answer, Caller, IdempotencyKey, Json, Path, Problem, Query, Submission};
use defer::Defer;
use events::{Event, Item, Message, OrderId, OrderStatus, TenantId};
use outbox::Prepared;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::app::App;
use crate::etag::{self, IfMatch};
use crate::order::{Completed, Draft, DraftChange, Order, Violations};
use crate::{deferred, direct, store};

/// How often a change is begun anew because somebody else was faster.
const ATTEMPTS: usize = 5;
const DEFAULT_LIMIT: u32 = 20;
const MAX_LIMIT: u32 = 100;
/// More than any address has (RFC 5321, 4.5.3.1.3).
const MAX_EMAIL_BYTES: usize = 320;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewOrder {
    customer_email: String,
    currency: String,
    items: Vec<NewItem>,
    #[serde(default)]
    complete: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewItem {
    sku: String,
    quantity: i64,
    unit_price: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OrderChange {
    #[serde(default, deserialize_with = "not_null")]
    customer_email: Option<String>,
    #[serde(default, deserialize_with = "not_null")]
    items: Option<Vec<NewItem>>,
}

/// What is given has a value: `null` neither leaves a field as it is nor removes it.
fn not_null<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    from: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Page {
    limit: Option<u32>,
    cursor: Option<String>,
    customer_email: Option<String>,
}

/// An order as callers see it.
#[derive(Serialize)]
struct OrderBody<'a> {
    id: OrderId,
    tenant_id: &'a TenantId,
    version: i64,
    status: OrderStatus,
    total: i64,
    currency: &'a str,
    customer_email: &'a str,
    items: &'a [Item],
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    completed_at: Option<OffsetDateTime>,
}

/// `POST /orders`
pub(crate) async fn place(
    State(app): State<App>,
    caller: Caller,
    defer: Defer,
    Submission { body, key }: Submission<NewOrder>,
) -> Result<Answer, Problem> {
    let NewOrder { customer_email, currency, items, complete } = body;
    let draft = Draft { customer_email, currency, items: lines(items) };
    let now = now();
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
    if let Err(error) = store::insert(&app.parts.pool, &order, row.as_ref(), &events).await {
        return earlier(&app, &caller, key.as_ref(), error).await;
    }
    app.parts.wake.wake();
    deferred::placed(&app, &defer, &caller, &order);
    if complete && let Some(completed) = events.last() {
        direct::tell(&app.downstream, &caller, completed).await?;
    }
    Ok(answer)
}

/// `PATCH /orders/{id}`
pub(crate) async fn update(
    State(app): State<App>,
    caller: Caller,
    defer: Defer,
    Path(id): Path<OrderId>,
    if_match: IfMatch,
    Json(OrderChange { customer_email, items }): Json<OrderChange>,
) -> Result<Answer, Problem> {
    let change = DraftChange { customer_email, items: items.map(lines) }.check()?;
    for _ in 0..ATTEMPTS {
        let before = find(&app, &caller, id).await?;
        let seen = before.version;
        // A completed order is said first: with the right version it could not be changed either
        // (RFC 9110, 13.2.1).
        let (order, updated) = before.clone().update(change.clone(), caller.cause())?;
        if !if_match.matches(seen) {
            return Err(Problem::precondition_failed(format!(
                "the order has the ETag {} by now; read it again",
                etag::of(seen)
            )));
        }
        let answer = answer(StatusCode::OK, &order)?;
        if store::replace(&app.parts.pool, &order, None, &[prepare(updated)?]).await? {
            app.parts.wake.wake();
            deferred::changed(&app, &defer, &[&before, &order]);
            return Ok(answer);
        }
    }
    Err(overtaken())
}

/// `POST /orders/{id}/complete`
pub(crate) async fn complete(
    State(app): State<App>,
    caller: Caller,
    defer: Defer,
    Path(id): Path<OrderId>,
    Submission { body: (), key }: Submission<()>,
) -> Result<Answer, Problem> {
    for _ in 0..ATTEMPTS {
        let order = find(&app, &caller, id).await?;
        let (order, event) = match order.clone().complete(now(), caller.cause()) {
            Ok((order, completed)) => (order, Some(prepare(completed)?)),
            Err(Completed) => (order, None),
        };
        let answer = answer(StatusCode::OK, &order)?;
        let row = key.as_ref().map(|key| key.row(&caller.tenant, &answer));
        let written = match (&event, &row) {
            (Some(event), row) => {
                let events = std::slice::from_ref(event);
                store::replace(&app.parts.pool, &order, row.as_ref(), events).await
            }
            // Nothing to change; but the key is used, and must not be given to another request.
            (None, Some(row)) => store::keep(&app.parts.pool, row).await.map(|()| true),
            (None, None) => Ok(true),
        };
        match written {
            Ok(true) => {
                if let Some(completed) = &event {
                    app.parts.wake.wake();
                    deferred::changed(&app, &defer, &[&order]);
                    direct::tell(&app.downstream, &caller, completed).await?;
                }
                return Ok(answer);
            }
            Ok(false) => {}
            Err(error) => return earlier(&app, &caller, key.as_ref(), error).await,
        }
    }
    Err(overtaken())
}

/// `GET /orders/{id}`
pub(crate) async fn read(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<OrderId>,
) -> Result<Answer, Problem> {
    answer(StatusCode::OK, &find(&app, &caller, id).await?)
}

/// `GET /orders`
pub(crate) async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(page): Query<Page>,
) -> Result<Response, Problem> {
    let limit = page.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(Problem::bad_request(format!("limit must be 1 to {MAX_LIMIT}")));
    }
    let before = page.cursor.as_deref().map(read_cursor).transpose()?;
    let customer = page.customer_email.as_deref();
    if customer.is_some_and(|customer| customer.len() > MAX_EMAIL_BYTES) {
        return Err(Problem::bad_request("customer_email is too long to be one"));
    }
    // What people look at again and again: the newest orders of one customer.
    let (Some(customer), None) = (customer, before) else {
        let list = read_list(&app, &caller, customer, before, limit).await?;
        return Ok(Answer::new(StatusCode::OK, list).into_response());
    };
    let list = match app.lists.get(&caller.tenant, customer, limit) {
        Ok(list) => list,
        Err(reading) => {
            let list = Arc::new(read_list(&app, &caller, Some(customer), None, limit).await?);
            app.lists.keep(reading, Arc::clone(&list));
            list
        }
    };
    Ok(axum::Json(list).into_response())
}

async fn read_list(
    app: &App,
    caller: &Caller,
    customer: Option<&str>,
    before: Option<OrderId>,
    limit: u32,
) -> Result<Value, Problem> {
    // One more than asked for says whether there are more.
    let asked = i64::from(limit) + 1;
    let mut orders = store::list(&app.parts.pool, &caller.tenant, customer, before, asked).await?;
    let mut next_cursor = None;
    if orders.len() > limit as usize {
        orders.truncate(limit as usize);
        next_cursor = orders.last().map(|last| cursor(last.state.order_id));
    }
    let orders = orders.iter().map(body).collect::<Result<Vec<_>, _>>()?;
    Ok(json!({ "orders": orders, "next_cursor": next_cursor }))
}

async fn find(app: &App, caller: &Caller, id: OrderId) -> Result<Order, Problem> {
    let order = store::find(&app.parts.pool, &caller.tenant, id).await?;
    order.ok_or_else(|| Problem::not_found(format!("there is no order {id}")))
}

/// The answer that the key was given before, if that is why the statement failed.
async fn earlier(
    app: &App,
    caller: &Caller,
    key: Option<&IdempotencyKey>,
    error: sqlx::Error,
) -> Result<Answer, Problem> {
    match key {
        Some(key) if IdempotencyKey::is_taken(&error) => {
            let earlier = key.earlier(&app.parts.pool, &caller.tenant).await?;
            // Pruned between the two statements.
            earlier.ok_or_else(|| {
                Problem::conflict("this Idempotency-Key has just expired; try again")
            })
        }
        _ => Err(error.into()),
    }
}

fn answer(status: StatusCode, order: &Order) -> Result<Answer, Problem> {
    Ok(Answer::new(status, body(order)?).header(&ETAG, etag::of(order.version)))
}

fn body(order: &Order) -> Result<Value, Problem> {
    let state = &order.state;
    let body = OrderBody {
        id: state.order_id,
        tenant_id: &state.tenant_id,
        version: order.version,
        status: state.status,
        total: state.total,
        currency: &state.currency,
        customer_email: &state.customer_email,
        items: &state.items,
        created_at: state.created_at,
        completed_at: order.completed_at,
    };
    serde_json::to_value(body).map_err(Problem::internal)
}

fn lines(items: Vec<NewItem>) -> Vec<Item> {
    let line = |NewItem { sku, quantity, unit_price }| Item { sku, quantity, unit_price };
    items.into_iter().map(line).collect()
}

/// A refusal is our fault: the rules here are meant to be at least as strict as the schema.
fn prepare<E: Event>(message: Message<E>) -> Result<Prepared, Problem> {
    outbox::prepare(message).map_err(Problem::internal)
}

/// As Postgres keeps it, so that row and event say the same.
fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc().truncate_to_microsecond()
}

fn overtaken() -> Problem {
    Problem::conflict("the order is being changed by many at once; try again")
}

fn cursor(last: OrderId) -> String {
    last.0.simple().to_string()
}

fn read_cursor(text: &str) -> Result<OrderId, Problem> {
    let id = text.parse::<Uuid>().map(OrderId).ok().filter(|id| cursor(*id) == text);
    id.ok_or_else(|| {
        Problem::bad_request("cursor must be the next_cursor of an earlier page, as it was")
    })
}

impl From<Violations> for Problem {
    fn from(violations: Violations) -> Self {
        Self::unprocessable(violations.to_string())
    }
}

impl From<Completed> for Problem {
    fn from(completed: Completed) -> Self {
        Self::conflict(completed.to_string())
    }
}
