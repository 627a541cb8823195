//! The flow of one order across all services, drawn and as text, updated live.

mod address;
mod advice;
mod details;
mod picture;
mod shown;
#[cfg(test)]
mod stories;

use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::response::Html;
use axum::routing::get;

use self::address::Address;
use self::shown::Shown;
use super::{Area, Console, Fields, Page, PageError, Session, filters};
use crate::flow::Flow;
use crate::plain::plain;

pub(super) fn routes() -> Router<Console> {
    Router::new().route("/flow", get(show))
}

/// The page with the search.
#[derive(Template)]
#[template(path = "flow/index.html")]
struct Index {
    page: Page,
    query: String,
}

/// The page of a flow, or of an unknown id.
#[derive(Template)]
#[template(path = "flow/flow.html")]
struct FlowPage {
    page: Page,
    query: String,
    shown: Shown,
}

async fn show(
    State(console): State<Console>,
    session: Session,
    fields: Fields,
) -> Result<Html<String>, PageError> {
    let Some(address) = Address::of(&fields) else {
        let page = console.page("Flow", Area::Flow, &session);
        return Ok(Html(Index { page, query: String::new() }.render()?));
    };
    let query = address.id.clone();
    let page = console.page(&format!("Flow of {}", plain(&query)), Area::Flow, &session);
    let clients = console.services(&session).all();
    let flow = Flow::collect(&clients, &console.kafka, &query).await?;
    let shown = Shown::new(&flow, &address, &console)?;
    Ok(Html(FlowPage { page, query, shown }.render()?))
}
