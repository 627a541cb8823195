//! Replays and rehearsals: their outcomes, pause, resume and cancel.

mod detail;
mod list;
mod outcomes;
mod start;
mod steer;

use axum::Router;
use axum::routing::{get, post};
use uuid::Uuid;

use super::Console;
use super::address::escaped;

pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route("/replays", get(list::show))
        .route("/replays/{service}/{id}", get(detail::show))
        .route("/replays/{service}/{id}/start", post(start::start))
        .route("/replays/{service}/{id}/{act}", post(steer::steer))
}

/// Returns the path of a replay's page.
pub(super) fn path(service: &str, id: Uuid) -> String {
    format!("/replays/{}/{id}", escaped(service))
}
