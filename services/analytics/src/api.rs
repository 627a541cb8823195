use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use chassis::{Caller, Problem, Query};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use crate::store::{self, Funnel, Revenue};

pub(crate) fn routes(pool: PgPool) -> Router {
    Router::new().route("/revenue", get(revenue)).route("/funnel", get(funnel)).with_state(pool)
}

/// Days, both included.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Days {
    from: Option<String>,
    to: Option<String>,
}

#[derive(Serialize)]
struct Revenues {
    revenue: Vec<Revenue>,
}

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
    // After the last day of the calendar there is none, and so no end.
    let until = to.and_then(|last| last.checked_add(Duration::DAY));
    let revenue = store::revenue(&pool, &caller.tenant, from, until).await?;
    Ok(Json(Revenues { revenue }))
}

/// The beginning of a day, UTC.
fn midnight(name: &str, day: &str) -> Result<OffsetDateTime, Problem> {
    OffsetDateTime::parse(&format!("{day}T00:00:00Z"), &Rfc3339)
        .map_err(|_| Problem::bad_request(format!("{name} must be a day, as YYYY-MM-DD")))
}

async fn funnel(State(pool): State<PgPool>, caller: Caller) -> Result<Json<Funnel>, Problem> {
    Ok(Json(store::funnel(&pool, &caller.tenant).await?))
}
