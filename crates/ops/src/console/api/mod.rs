use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::response::Html;
use axum::routing::get;

use super::{Area, Console, Page, PageError, Session, filters};

pub(super) fn routes() -> Router<Console> {
    Router::new().route("/api", get(show))
}

#[derive(Template)]
#[template(path = "api/index.html")]
struct Index {
    page: Page,
}

async fn show(State(console): State<Console>, session: Session) -> Result<Html<String>, PageError> {
    let page = console.page("Api", Area::Api, &session);
    Ok(Html(Index { page }.render()?))
}
