//! Retries or discards all jobs that match a filter, after a confirmation.

use std::collections::BTreeSet;

use askama::Template;
use axum::extract::{Path, State};
use axum::response::{Html, Response};

use super::change::{named, send};
use super::{HERE, JobQuery};
use crate::client::JobSelection;
use crate::console::address::address;
use crate::console::fields::Sent;
use crate::console::pages::ANSWER;
use crate::console::refusal::{refused, why};
use crate::console::silent::Silent;
use crate::console::{Area, Console, Fields, Notice, Page, PageError, Session, filters};
use crate::error::Error;
use crate::jobs::{Chosen, JobChange};

#[derive(Template)]
#[template(path = "jobs/all.html")]
struct AllPage {
    page: Page,
    act: &'static str,
    back: String,
    query: JobQuery,
    title: String,
    /// The services that have such jobs.
    services: Vec<String>,
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
    let mut query = query(change, &fields)?;
    let clients = console.services(&session).named(query.service.as_deref())?;
    let clients = clients.into_iter().map(|it| it.within(ANSWER)).collect();
    let chosen = Chosen::by_filter(clients, &query.filter, change.from).await?;
    let back = address(HERE, &query.to_query());
    query.filter.until.clone_from(&chosen.until);
    let title = format!("{} jobs", change.question);
    let template = AllPage {
        page: console.page(&title, Area::Jobs, &session),
        act: change.act,
        back,
        title: chosen.title(),
        services: chosen.parts.iter().map(|it| it.client.service.clone()).collect(),
        reasons: chosen.reasons(),
        silent: Silent::of(&chosen.unavailable),
        is_empty: chosen.is_empty(),
        query,
    };
    Ok(Html(template.render()?))
}

/// Returns the filter. Fails if it selects a state in which jobs can't be changed.
fn query(change: &JobChange, fields: &Fields) -> Result<JobQuery, Error> {
    let query = JobQuery::of(fields)?;
    if let Some(state) = query.filter.state.filter(|state| !change.from.contains(state)) {
        let message = format!("Jobs that are {} can't be {}ed.", state.as_str(), change.act);
        return Err(Error::Refused(message));
    }
    Ok(query)
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
    let (query, services) = (query(change, fields)?, console.services(session));
    // The page has named the services that have such jobs, and the time until which it has counted
    // them, so nothing is listed again.
    let shown: BTreeSet<_> = fields.all("of").into_iter().collect();
    if shown.is_empty() || query.filter.until.is_none() {
        return Ok(Notice::bad("Nothing was changed: show these jobs again, then confirm."));
    }
    let mut clients = Vec::new();
    for service in shown {
        clients.extend(services.named(Some(service))?);
    }
    let selection = JobSelection::Filter(query.filter);
    let parts: Vec<_> = clients.into_iter().map(|it| (it, selection.clone())).collect();
    send(console, &parts, change, why).await
}
