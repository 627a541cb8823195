//! Retry or discard of all jobs that meet a filter: first what it is about, then the change.

use askama::Template;
use axum::extract::{Path, State};
use axum::response::{Html, Response};

use super::change::{named, send};
use super::{HERE, JobQuery};
use crate::console::address::address;
use crate::console::fields::Sent;
use crate::console::silent::Silent;
use crate::console::{Area, Console, Fields, Page, PageError, Said, Session, filters};
use crate::error::with_cause;
use crate::jobs::{Chosen, JobChange};

#[derive(Template)]
#[template(path = "jobs/all.html")]
struct AllPage {
    page: Page,
    act: &'static str,
    back: String,
    query: JobQuery,
    title: String,
    /// How many there are for each reason.
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
    let (query, chosen) = chosen(&console, &session, change, &fields).await?;
    let title = format!("{} jobs", change.question);
    let template = AllPage {
        page: console.page(&title, Area::Jobs, &session),
        act: change.act,
        back: address(HERE, &query.to_query()),
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
) -> Result<(JobQuery, Chosen), PageError> {
    let query = JobQuery::of(fields)?;
    let from = change.from;
    if let Some(state) = query.filter.state.filter(|state| !from.contains(state)) {
        let said = format!("Jobs that are {} can't be {}ed.", state.as_str(), change.act);
        return Err(PageError::usage(said));
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
    let Some(why) = fields.one("why") else {
        return Ok(Said::bad("Say why: the reason is kept with your name.").back(&fields, HERE));
    };
    let (_, chosen) = chosen(&console, &session, change, &fields).await?;
    if let Some((_, error)) = chosen.unavailable.first() {
        let why = format!(
            "Nothing was changed: {}. Try again, or one service by itself.",
            with_cause(error)
        );
        return Ok(Said::bad(why).back(&fields, HERE));
    }
    if chosen.is_empty() {
        return Ok(Said::new("There are no such jobs any more.").back(&fields, HERE));
    }
    let parts: Vec<_> = chosen.into_parts().collect();
    Ok(send(&console, &parts, change, why).await?.back(&fields, HERE))
}
