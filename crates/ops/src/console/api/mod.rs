//! The interfaces of the services: their contracts, and the admin API that this console and
//! `orderflow` use.

mod contracts;
mod events;
mod operations;

use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::response::Html;
use axum::routing::get;

use self::operations::{OPERATIONS, Operation};
use super::{Area, Console, Page, PageError, Session, filters};

pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route("/api", get(show))
        .route("/api/http/{service}", get(contracts::show))
        .route("/api/events", get(events::show))
        .route("/api/schemas/{*path}", get(contracts::file))
}

#[derive(Template)]
#[template(path = "api/index.html")]
struct Api {
    page: Page,
    operations: &'static [Operation],
    /// Services whose HTTP interface is described.
    described: Vec<&'static str>,
    /// Name and admin port.
    services: Vec<(String, String)>,
    example: String,
}

async fn show(State(console): State<Console>, session: Session) -> Result<Html<String>, PageError> {
    let page = console.page("API", Area::Api, &session);
    let clients = console.services(&session).all();
    let services: Vec<_> = clients.into_iter().map(|it| (it.service, it.url.to_string())).collect();
    let base = services.first().map_or("http://127.0.0.1:9182/", |(_, url)| url);
    let base = base.trim_end_matches('/');
    let example = format!(
        "curl -H \"Authorization: Bearer $OPERATOR_TOKEN\" '{base}/dead-letters?status=dead&limit=20'"
    );
    Ok(Html(
        Api { page, operations: &OPERATIONS, described: contracts::services(), services, example }
            .render()?,
    ))
}
