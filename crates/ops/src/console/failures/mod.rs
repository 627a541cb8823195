//! Failures: dead letters in groups and one by one, and what an operator can do about them.

mod badge;
mod change;
mod chosen;
mod difference;
mod edit;
mod group_status;
mod groups;
mod letter;
mod letters;
mod payload;
mod query;
mod rehearse;

pub(crate) use badge::badge;
pub(super) use chosen::one_service;
pub(super) use letter::path as letter_path;
pub(super) use query::Query;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::{get, post};

use super::{Console, Fields, PageError, Session};
use crate::services::Services;

pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route("/failures", get(failures))
        .route("/failures/groups", post(group_status::set))
        .route("/failures/letters/{service}/{id}", get(letter::show))
        .route("/failures/letters/{service}/{id}/edit", edit::route())
        .route("/failures/rehearse", post(rehearse::rehearse))
        .route("/failures/discard", post(change::discard))
        .route("/failures/restore", post(change::restore))
}

async fn failures(
    State(console): State<Console>,
    session: Session,
    fields: Fields,
) -> Result<Response, PageError> {
    let query = Query::read(&fields);
    if query.is_letters() {
        letters::show(&console, &session, query).await
    } else {
        groups::show(&console, &session, query).await
    }
}

/// Returns the subscriptions for the choice in a form: those that were polled, and those on the
/// page.
fn subscriptions<'a>(console: &Console, shown: impl Iterator<Item = &'a str>) -> Vec<String> {
    let polled = console.polled.services.borrow().clone();
    let states = polled.iter().filter_map(|it| it.fresh()).flatten();
    let polled = states.flat_map(|it| it.subscribed.iter().flatten()).map(|it| it.group.clone());
    let mut groups: Vec<_> = polled.chain(shown.map(ToOwned::to_owned)).collect();
    groups.sort();
    groups.dedup();
    groups
}

/// Returns the services to query: that of the subscription, or all.
fn asked(services: &Services, query: &Query) -> Result<Vec<crate::client::Client>, PageError> {
    Ok(services.chosen(query.group())?)
}
