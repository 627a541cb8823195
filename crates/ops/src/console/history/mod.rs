//! The history of operators' acts: who, when, what, why, with what outcome.

use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::response::Html;
use axum::routing::get;
use time::OffsetDateTime;

use super::address::address;
use super::pages::ANSWER;
use super::silent::Silent;
use super::{Area, Console, Fields, Page, PageError, Session, filters};
use crate::client::{Act, Merged, Order};
use crate::moment::{parse, since};

const HERE: &str = "/history";
/// Maximum number of acts to show.
const MOST: usize = 100;

pub(super) fn routes() -> Router<Console> {
    Router::new().route(HERE, get(show))
}

#[derive(Template)]
#[template(path = "history/index.html")]
struct History {
    page: Page,
    here: String,
    query: Query,
    services: Vec<String>,
    acts: Vec<Act>,
    silent: Vec<Silent>,
    is_cut: bool,
}

/// The filter in the address.
#[derive(Default)]
struct Query {
    service: Option<String>,
    by: Option<String>,
    /// The beginning of an act's kind.
    act: Option<String>,
    since: Option<String>,
    /// Number of pages to show at once.
    pages: usize,
}

impl Query {
    fn of(fields: &Fields) -> Self {
        let text = |name| fields.one(name).map(ToOwned::to_owned);
        let pages = fields.one("pages").and_then(|it| it.parse().ok()).unwrap_or(1);
        let (service, by, act, since) = (text("service"), text("by"), text("act"), text("since"));
        Self { service, by, act, since, pages: pages.clamp(1, 100) }
    }

    fn to_query(&self, pages: usize) -> Vec<(&'static str, String)> {
        let pages = (pages > 1).then(|| pages.to_string());
        let all = [
            ("service", self.service.clone()),
            ("by", self.by.clone()),
            ("act", self.act.clone()),
            ("since", self.since.clone()),
            ("pages", pages),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }

    fn is(&self, service: &str) -> bool {
        self.service.as_deref() == Some(service)
    }

    fn text(value: Option<&String>) -> &str {
        value.map(String::as_str).unwrap_or_default()
    }
}

async fn show(
    State(console): State<Console>,
    session: Session,
    fields: Fields,
) -> Result<Html<String>, PageError> {
    let page = console.page("History", Area::History, &session);
    let query = Query::of(&fields);
    let services = console.services(&session);
    let (acts, silent, is_cut) = acts(&services, &query).await?;
    let template = History {
        page,
        here: address(HERE, &query.to_query(query.pages)),
        services: services.all().into_iter().map(|it| it.service).collect(),
        query,
        acts,
        silent,
        is_cut,
    };
    Ok(Html(template.render()?))
}

/// Returns the requested acts, newest first, and whether there are more. The API filters by
/// operator only.
async fn acts(
    services: &crate::services::Services,
    query: &Query,
) -> Result<(Vec<Act>, Vec<Silent>, bool), PageError> {
    let clients = services.named(query.service.as_deref())?;
    let from = query.since.as_deref().map(|it| since(it, OffsetDateTime::now_utc())).transpose()?;
    let clients = clients.into_iter().map(|it| it.within(ANSWER));
    let listings = clients.map(|client| client.acts(query.by.as_deref())).collect();
    let most = MOST * query.pages;
    let read = if query.act.is_some() { usize::MAX } else { most + 1 };
    let mut list = Merged::<Act>::new(listings, read, Order::Newest);
    let mut acts = Vec::new();
    while acts.len() <= most
        && let Some(act) = list.next().await?
    {
        if from.is_some_and(|from| parse(&act.at).is_some_and(|at| at < from)) {
            break;
        }
        if query.act.as_deref().is_none_or(|prefix| act.kind.starts_with(prefix)) {
            acts.push(act.into_known());
        }
    }
    let is_cut = acts.len() > most;
    acts.truncate(most);
    Ok((acts, Silent::of(&list.unavailable), is_cut))
}

impl History {
    fn more(&self) -> String {
        address(HERE, &self.query.to_query(self.query.pages + 1))
    }

    fn is_filtered(&self) -> bool {
        !self.query.to_query(1).is_empty()
    }

    /// Returns the address with the filter for an operator.
    #[allow(clippy::unused_self)] // Templates call it on the page.
    fn of(&self, by: &str) -> String {
        address(HERE, &[("by", by.to_owned())])
    }
}
