//! `GET /orders`: pages of orders, newest first.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use chassis::{Answer, Caller, Cursor, Limit, Page, Problem, Query};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Api;
use super::body::body;
use crate::store;

/// More than any address has (RFC 5321, 4.5.3.1.3).
const MAX_EMAIL_BYTES: usize = 320;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    #[serde(default)]
    limit: Limit,
    cursor: Option<Cursor>,
    customer_email: Option<String>,
}

pub(super) async fn list(
    State(api): State<Api>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Response, Problem> {
    let ListQuery { limit, cursor, customer_email } = query;
    let customer = customer_email.as_deref();
    if customer.is_some_and(|customer| customer.len() > MAX_EMAIL_BYTES) {
        return Err(Problem::bad_request("customer_email is too long to be one"));
    }
    // Only the newest orders of one customer are cached: they are what is read again and again.
    let (Some(customer), None) = (customer, cursor) else {
        let list = read_list(&api, &caller, customer, cursor, limit).await?;
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
    cursor: Option<Cursor>,
    limit: Limit,
) -> Result<Value, Problem> {
    let (pool, tenant) = (&api.parts.pool, &caller.tenant);
    let orders = store::list(pool, tenant, customer, Cursor::below(cursor), limit.rows()).await?;
    let Page { rows, next_cursor } = Page::new(orders, limit, |order| order.state.order_id.0);
    let orders = rows.iter().map(body).collect::<Result<Vec<_>, _>>()?;
    Ok(json!({ "orders": orders, "next_cursor": next_cursor }))
}
