//! `GET /orders`: pages of orders, newest first.

use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use chassis::{Caller, Cursor, Limit, Page, Problem, Query};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::body::OrderBody;
use crate::order::Order;
use crate::store;

const BEGIN: &[u8] = b"{\"orders\":[";

/// Longer than any valid address (RFC 5321, 4.5.3.1.3).
const MAX_EMAIL_BYTES: usize = 320;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    #[serde(default)]
    #[param(inline)]
    limit: Limit,
    /// The `next_cursor` of the previous page.
    #[param(inline)]
    cursor: Option<Cursor>,
    /// Returns only orders of this customer.
    #[param(max_length = 320)]
    customer_email: Option<String>,
}

/// A page of orders.
#[derive(ToSchema)]
#[expect(dead_code, reason = "never made as a whole")]
struct Orders {
    orders: Vec<OrderBody<'static>>,
    next_cursor: Option<Cursor>,
}

/// Lists orders
#[utoipa::path(
    get,
    path = "/orders",
    operation_id = "list_orders",
    tag = "orders",
    params(ListQuery),
    responses((status = 200, description = "Orders, newest first", body = Orders)),
)]
pub(super) async fn list(
    State(api): State<Api>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Response, Problem> {
    let ListQuery { limit, cursor, customer_email } = query;
    let customer = customer_email.as_deref();
    let is_no_address = |it: &str| it.len() > MAX_EMAIL_BYTES || it.contains(char::is_control);
    if customer.is_some_and(is_no_address) {
        let rule = format!(
            "customer_email must have at most {MAX_EMAIL_BYTES} bytes, and no control characters"
        );
        return Err(Problem::bad_request(rule));
    }
    // Only the first page of a customer is cached, because it is the one that is read repeatedly.
    let (Some(customer), None) = (customer, cursor) else {
        return read(&api, &caller, customer, cursor, limit).await.map(response);
    };
    let text = match api.lists.get(&caller.tenant, customer, limit) {
        Ok(text) => text,
        Err(reading) => {
            let text = read(&api, &caller, Some(customer), None, limit).await?;
            api.lists.keep(reading, text.clone());
            text
        }
    };
    Ok(response(text))
}

fn response(text: Bytes) -> Response {
    ([(CONTENT_TYPE, "application/json")], text).into_response()
}

/// Reads a list within the memory limit that all lists share. The text is written row by row,
/// because a tree of JSON values would take several times its size.
async fn read(
    api: &Api,
    caller: &Caller,
    customer: Option<&str>,
    cursor: Option<Cursor>,
    limit: Limit,
) -> Result<Bytes, Problem> {
    let _permit = api.list_memory.read_permit(&caller.tenant, limit).await?;
    let mut text = BEGIN.to_vec();
    // Offset in the text at which each order ends.
    let mut ends = Vec::new();
    let (pool, tenant) = (&api.parts.pool, &caller.tenant);
    let below = Cursor::below(cursor);
    let mut write = |order: &Order| {
        if !ends.is_empty() {
            text.push(b',');
        }
        serde_json::to_writer(&mut text, &OrderBody::of(order))?;
        ends.push((order.state.order_id.0, text.len()));
        Ok(())
    };
    store::list(pool, tenant, customer, below, limit.rows(), &mut write).await?;
    let Page { rows, next_cursor } = Page::new(ends, limit, |(id, _)| *id);
    text.truncate(rows.last().map_or(BEGIN.len(), |(_, end)| *end));
    text.extend(b"],\"next_cursor\":");
    serde_json::to_writer(&mut text, &next_cursor).map_err(Problem::internal)?;
    text.push(b'}');
    // The buffer grows by doubling, so up to half of it may be unused.
    text.shrink_to_fit();
    Ok(text.into())
}
