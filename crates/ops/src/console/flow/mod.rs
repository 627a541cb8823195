use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::response::Html;
use axum::routing::get;

use super::{Area, Console, Page, PageError, Session, filters};

pub(super) fn routes() -> Router<Console> {
    Router::new().route("/flow", get(show))
}

#[derive(Template)]
#[template(path = "flow/index.html")]
struct Index {
    page: Page,
}

async fn show(State(console): State<Console>, session: Session) -> Result<Html<String>, PageError> {
    let page = console.page("Flow", Area::Flow, &session);
    Ok(Html(Index { page }.render()?))
}
