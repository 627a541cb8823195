use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use chassis::{BadCursor, Caller, Cursor, Limit, Page, Path, Peer, Problem, Query};
use envelope::TenantId;
use events::OrderId;
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use time::{Duration, OffsetDateTime};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::basket::{self, Baskets, BestSeller};
use crate::history::{self, Entry, EntryKey};
use crate::store::{self, Funnel, ORDER_PLACED, Revenue, RevenueKey};

/// Maximum size of a tracked body. A valid one has a few hundred bytes.
const MAX_TRACKED_BYTES: usize = 4096;

/// Maximum number of concurrent reports, of which a tenant has one: each occupies a connection
/// while its statement runs.
const REPORTS_AT_ONCE: usize = 2;

/// Builds the routes of the public API. `basket` is the generation of the basket that is served.
pub(crate) fn routes(pool: PgPool, basket: i32) -> OpenApiRouter {
    let reports = OpenApiRouter::new()
        .routes(routes!(revenue))
        .routes(routes!(funnel))
        .routes(routes!(best_sellers))
        .routes(routes!(baskets));
    OpenApiRouter::new()
        .routes(routes!(history_of_order))
        .routes(routes!(track))
        .merge(chassis::at_most(REPORTS_AT_ONCE, reports))
        .layer(Extension(ServedGeneration(basket)))
        .with_state(pool)
}

/// A page of a range of days, both included.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Days {
    #[serde(default)]
    #[param(inline)]
    limit: Limit,
    /// The `next_cursor` of the previous page.
    #[param(value_type = Option<String>)]
    cursor: Option<Cursor<RevenueKey>>,
    /// First day, UTC. By default the first day with an order.
    #[param(format = Date)]
    from: Option<String>,
    /// Last day, UTC; not before `from`. By default the last day with an order.
    #[param(format = Date)]
    to: Option<String>,
}

#[derive(Serialize, ToSchema)]
struct Revenues {
    revenue: Vec<Revenue>,
    #[schema(value_type = Option<Cursor>)]
    next_cursor: Option<Cursor<RevenueKey>>,
}

/// Returns the revenue by day and currency
#[utoipa::path(
    get,
    path = "/revenue",
    tag = "reports",
    params(Days),
    responses((status = 200, description = "Days with revenue, oldest first", body = Revenues)),
)]
async fn revenue(
    State(pool): State<PgPool>,
    caller: Caller,
    Query(days): Query<Days>,
) -> Result<Json<Revenues>, Problem> {
    let from = days.from.as_deref().map(|day| midnight("from", day)).transpose()?;
    let to = days.to.as_deref().map(|day| midnight("to", day)).transpose()?;
    if let (Some(first), Some(last)) = (from, to)
        && first > last
    {
        return Err(Problem::bad_request("from must not be after to"));
    }
    // There is no day after the last one of the calendar, and then no upper bound.
    let until = to.and_then(|last| last.checked_add(Duration::DAY));
    let (limit, after) = (days.limit, days.cursor.map(Cursor::into_key));
    let revenue = store::revenue(&pool, &caller.tenant, (from, until), after, limit.rows()).await?;
    let Page { rows: revenue, next_cursor } = Page::new(revenue, limit, Revenue::key);
    Ok(Json(Revenues { revenue, next_cursor }))
}

/// Returns the beginning of a day, UTC.
fn midnight(name: &str, day: &str) -> Result<OffsetDateTime, Problem> {
    let refused = || Problem::bad_request(format!("{name} must be a day, as YYYY-MM-DD"));
    store::midnight(day).ok_or_else(refused)
}

/// Counts orders by the state that they have reached
#[utoipa::path(
    get,
    path = "/funnel",
    tag = "reports",
    responses((status = 200, description = "Number of orders by state", body = Funnel)),
)]
async fn funnel(State(pool): State<PgPool>, caller: Caller) -> Result<Json<Funnel>, Problem> {
    Ok(Json(store::funnel(&pool, &caller.tenant).await?))
}

#[derive(Serialize, ToSchema)]
#[expect(clippy::struct_field_names, reason = "lists are named by what they hold, in JSON too")]
struct History {
    #[schema(value_type = Uuid)]
    order_id: OrderId,
    history: Vec<Entry>,
    #[schema(value_type = Option<Cursor>)]
    next_cursor: Option<Cursor<EntryKey>>,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct HistoryQuery {
    #[serde(default)]
    #[param(inline)]
    limit: Limit,
    /// The `next_cursor` of the previous page.
    #[param(value_type = Option<String>)]
    cursor: Option<Cursor<EntryKey>>,
}

/// Lists the events of an order
#[utoipa::path(
    get,
    path = "/orders/{id}/history",
    operation_id = "order_history",
    tag = "orders",
    params(("id" = Uuid, Path, description = "Id of the order"), HistoryQuery),
    responses((status = 200, description = "Events in the order in which they happened", body = History)),
)]
async fn history_of_order(
    State(pool): State<PgPool>,
    caller: Caller,
    Path(order_id): Path<OrderId>,
    Query(HistoryQuery { limit, cursor }): Query<HistoryQuery>,
) -> Result<Json<History>, Problem> {
    let after = cursor.map(Cursor::into_key);
    let is_first = after.is_none();
    let history = history::of_order(&pool, &caller.tenant, order_id, after, limit.rows()).await?;
    if history.is_empty() {
        return Err(if is_first {
            Problem::not_found(format!("there are no events of an order {order_id}"))
        } else {
            // The page after a `next_cursor` is never empty, so this cursor is not one.
            Problem::bad_request(BadCursor.to_string())
        });
    }
    let Page { rows: history, next_cursor } = Page::new(history, limit, Entry::key);
    Ok(Json(History { order_id, history, next_cursor }))
}

/// An event to track, which is not published through Kafka.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Tracked {
    #[schema(pattern = "^order_placed$")]
    event: String,
    #[schema(value_type = String, pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    tenant_id: TenantId,
    #[schema(value_type = Uuid)]
    order_id: OrderId,
    #[serde(with = "time::serde::rfc3339")]
    at: OffsetDateTime,
}

/// Tracks an event that is not published
///
/// Called by the order service. An order counts once, however often it is sent.
#[utoipa::path(
    post,
    path = "/track",
    tag = "tracking",
    request_body = Tracked,
    responses((status = 202, description = "Counted")),
    security(("service" = [])),
)]
async fn track(
    State(pool): State<PgPool>,
    peer: Peer,
    chassis::Json(tracked): chassis::Json<Tracked, MAX_TRACKED_BYTES>,
) -> Result<StatusCode, Problem> {
    peer.require("track")?;
    if tracked.event != ORDER_PLACED {
        return Err(Problem::unprocessable(format!("event must be {ORDER_PLACED}")));
    }
    store::track(&pool, &tracked.event, &tracked.tenant_id, tracked.order_id, tracked.at).await?;
    Ok(StatusCode::ACCEPTED)
}

/// The generation of the basket that is served.
#[derive(Clone, Copy)]
struct ServedGeneration(i32);

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct BestSellersQuery {
    /// Maximum number of products.
    #[param(minimum = 1, maximum = 100, default = 10)]
    limit: Option<u32>,
}

#[derive(Serialize, ToSchema)]
struct BestSellers {
    best_sellers: Vec<BestSeller>,
}

/// Lists the best-selling products
#[utoipa::path(
    get,
    path = "/best-sellers",
    tag = "reports",
    params(BestSellersQuery),
    responses((status = 200, description = "Products, highest quantity first", body = BestSellers)),
)]
async fn best_sellers(
    State(pool): State<PgPool>,
    Extension(ServedGeneration(generation)): Extension<ServedGeneration>,
    caller: Caller,
    Query(query): Query<BestSellersQuery>,
) -> Result<Json<BestSellers>, Problem> {
    let limit = query.limit.unwrap_or(10);
    if !(1..=100).contains(&limit) {
        return Err(Problem::bad_request("limit must be 1 to 100"));
    }
    let best_sellers =
        basket::best_sellers(&pool, generation, &caller.tenant, limit.into()).await?;
    Ok(Json(BestSellers { best_sellers }))
}

/// Returns statistics of baskets
#[utoipa::path(
    get,
    path = "/baskets",
    tag = "reports",
    responses((status = 200, description = "Statistics over all completed orders", body = Baskets)),
)]
async fn baskets(
    State(pool): State<PgPool>,
    Extension(ServedGeneration(generation)): Extension<ServedGeneration>,
    caller: Caller,
) -> Result<Json<Baskets>, Problem> {
    Ok(Json(basket::baskets(&pool, generation, &caller.tenant).await?))
}
