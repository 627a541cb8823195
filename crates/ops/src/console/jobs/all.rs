//! Retries or discards all jobs that match a filter, after a confirmation.

use askama::Template;
use axum::extract::{Path, State};
use axum::response::{Html, Response};

use super::change::{named, send};
use super::{HERE, JobQuery};
use crate::console::address::address;
use crate::console::fields::Sent;
use crate::console::refusal::{refused, why};
use crate::console::silent::Silent;
use crate::console::{Area, Console, Fields, Notice, Page, PageError, Session, filters};
use crate::error::{Error, with_cause};
use crate::jobs::{Chosen, JobChange};

#[derive(Template)]
#[template(path = "jobs/all.html")]
struct AllPage {
    page: Page,
    act: &'static str,
    back: String,
    query: JobQuery,
    title: String,
    /// Number of jobs for each reason.
    reasons: String,
    silent: Vec<Silent>,
    is_empty: bool,
}

pub(super) async fn show(
    State(console): State<Console>,
    session: Session,
    Path(act): Path<String>,
    fields: Fields,
) -> Result<Html<String>, PageError> {
    let change = named(&act)?;
    let (mut query, chosen) = chosen(&console, &session, change, &fields).await?;
    let back = address(HERE, &query.to_query());
    query.filter.until = chosen.until();
    let title = format!("{} jobs", change.question);
    let template = AllPage {
        page: console.page(&title, Area::Jobs, &session),
        act: change.act,
        back,
        title: chosen.title(),
        reasons: chosen.reasons(),
        silent: Silent::of(&chosen.unavailable),
        is_empty: chosen.is_empty(),
        query,
    };
    Ok(Html(template.render()?))
}

async fn chosen(
    console: &Console,
    session: &Session,
    change: &JobChange,
    fields: &Fields,
) -> Result<(JobQuery, Chosen), Error> {
    let query = JobQuery::of(fields)?;
    let from = change.from;
    if let Some(state) = query.filter.state.filter(|state| !from.contains(state)) {
        let message = format!("Jobs that are {} can't be {}ed.", state.as_str(), change.act);
        return Err(Error::Refused(message));
    }
    let clients = console.services(session).named(query.service.as_deref())?;
    let chosen = Chosen::by_filter(clients, &query.filter, from).await?;
    Ok((query, chosen))
}

pub(super) async fn change(
    State(console): State<Console>,
    session: Session,
    Path(act): Path<String>,
    Sent(fields): Sent,
) -> Result<Response, PageError> {
    let change = named(&act)?;
    Ok(match change_all(&console, &session, change, &fields).await {
        Ok(notice) => notice.back(&fields, HERE),
        Err(error) => refused(&error, &fields, HERE),
    })
}

async fn change_all(
    console: &Console,
    session: &Session,
    change: &JobChange,
    fields: &Fields,
) -> Result<Notice, Error> {
    let why = why(fields)?;
    let (_, chosen) = chosen(console, session, change, fields).await?;
    if let Some((_, error)) = chosen.unavailable.first() {
        let why = with_cause(error);
        let message = format!("Nothing was changed: {why}. Try again, or one service by itself.");
        return Ok(Notice::bad(message));
    }
    if chosen.is_empty() {
        return Ok(Notice::new("There are no such jobs any more."));
    }
    let parts: Vec<_> = chosen.into_parts().collect();
    send(console, &parts, change, why).await
}
