//! `GET /orders`: pages of orders, newest first.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use chassis::{Answer, Caller, Problem, Query};
use events::OrderId;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Api;
use super::body::body;
use crate::store;

const DEFAULT_LIMIT: u32 = 20;
const MAX_LIMIT: u32 = 100;
/// More than any address has (RFC 5321, 4.5.3.1.3).
const MAX_EMAIL_BYTES: usize = 320;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    limit: Option<u32>,
    cursor: Option<String>,
    customer_email: Option<String>,
}

pub(super) async fn list(
    State(api): State<Api>,
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
    // Only the newest orders of one customer are cached: they are what is read again and again.
    let (Some(customer), None) = (customer, before) else {
        let list = read_list(&api, &caller, customer, before, limit).await?;
        return Ok(Answer::new(StatusCode::OK, list).into_response());
    };
    let list = match api.lists.get(&caller.tenant, customer, limit) {
        Ok(list) => list,
        Err(reading) => {
            let list = Arc::new(read_list(&api, &caller, Some(customer), None, limit).await?);
            api.lists.keep(reading, Arc::clone(&list));
            list
        }
    };
    Ok(axum::Json(list).into_response())
}

async fn read_list(
    api: &Api,
    caller: &Caller,
    customer: Option<&str>,
    before: Option<OrderId>,
    limit: u32,
) -> Result<Value, Problem> {
    // One row more than the limit tells whether there is a next page.
    let asked = i64::from(limit) + 1;
    let mut orders = store::list(&api.parts.pool, &caller.tenant, customer, before, asked).await?;
    let mut next_cursor = None;
    if orders.len() > limit as usize {
        orders.truncate(limit as usize);
        next_cursor = orders.last().map(|last| cursor(last.state.order_id));
    }
    let orders = orders.iter().map(body).collect::<Result<Vec<_>, _>>()?;
    Ok(json!({ "orders": orders, "next_cursor": next_cursor }))
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
