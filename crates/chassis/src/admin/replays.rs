//! `/replays` on the admin port: outcomes of replayed dead letters.

use axum::extract::State;
use axum::routing::get;
use axum::{Json as Body, Router};
use consumer::Replayed;
use serde::{Deserialize, Serialize};

use super::Admin;
use crate::http::{Path, Problem, Query};

pub(super) fn routes() -> Router<Admin> {
    Router::new().route("/replays", get(recovered)).route("/replays/{id}", get(find))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RecoveredQuery {
    subscription: String,
}

#[derive(Serialize)]
struct Recovered {
    replays: Vec<Replayed>,
}

async fn find(
    State(admin): State<Admin>,
    Path(id): Path<String>,
) -> Result<Body<Replayed>, Problem> {
    let replayed = consumer::replayed(&admin.pool, &id).await?;
    replayed.map(Body).ok_or_else(|| {
        Problem::not_found("no such replay is settled; if it was just sent, ask again")
    })
}

/// Lists the replays that succeeded, so that tools don't offer them again.
async fn recovered(
    State(admin): State<Admin>,
    Query(query): Query<RecoveredQuery>,
) -> Result<Body<Recovered>, Problem> {
    let replays = consumer::recovered(&admin.pool, &query.subscription).await?;
    Ok(Body(Recovered { replays }))
}
