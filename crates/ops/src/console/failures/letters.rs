//! The list of letters, with all filters of the API.

use askama::Template;
use axum::response::{Html, IntoResponse, Response};

use super::query::{Query, STATUSES};
use super::{asked, subscriptions};
use crate::client::{Client, Status, Summary};
use crate::console::pages::{self, Of, Paged, Source};
use crate::console::silent::Silent;
use crate::console::{Area, Console, Page, PageError, Session, filters};

const SIZE: usize = 50;

impl Paged for Summary {
    fn id(&self) -> String {
        self.id.to_string()
    }
}

#[derive(Template)]
#[template(path = "failures/letters.html")]
struct View {
    page: Page,
    query: Query,
    subscriptions: Vec<String>,
    letters: Vec<Of<Summary>>,
    next: Option<String>,
    silent: Vec<Silent>,
}

impl View {
    fn here(&self) -> String {
        self.query.address()
    }

    fn path(it: &Of<Summary>) -> String {
        super::letter::path(&it.service, it.item.id)
    }

    /// Returns the address of the first page.
    fn first(&self) -> Option<String> {
        (!self.query.cursor.is_empty()).then(|| self.query.at(""))
    }

    fn statuses() -> &'static [(&'static str, &'static str)] {
        &STATUSES
    }

    /// Returns the address of the same filter in the view of groups.
    fn as_groups(&self) -> String {
        let Query { group, event_type, reason, fingerprint, .. } = self.query.clone();
        Query { group, event_type, reason, fingerprint, ..Query::default() }.address()
    }

    /// Returns whether only discarded letters are shown.
    fn is_discarded(&self) -> bool {
        self.query.status == "discarded"
    }

    /// Returns whether some of the letters can be rehearsed and discarded.
    fn is_open(&self) -> bool {
        matches!(&*self.query.status, "" | "any" | "dead" | "parked")
    }

    /// Returns whether a filter is set that is not always visible.
    fn is_detailed(&self) -> bool {
        let Query { fingerprint, tenant, subject, correlation_id, event_id, from, to, .. } =
            &self.query;
        let all = [fingerprint, tenant, subject, correlation_id, event_id, from, to];
        all.iter().any(|it| !it.is_empty())
    }
}

pub(super) async fn show(
    console: &Console,
    session: &Session,
    query: Query,
) -> Result<Response, PageError> {
    let page = console.page("Failures", Area::Failures, session);
    let clients = asked(&console.services(session), &query)?;
    let filters = query.filters()?;
    let mut sources = Vec::new();
    for client in clients {
        for filter in &filters {
            let (group, filter) = (query.group().map(ToOwned::to_owned), filter.clone());
            let part = filter.status.map_or("any", Status::as_str);
            let list = move |client: &Client| client.letters(group.as_deref(), &filter);
            sources.push(Source::new(client.clone(), part, list));
        }
    }
    let cursor = Some(&*query.cursor).filter(|it| !it.is_empty());
    let found = pages::page(sources, cursor, SIZE, |_| true).await?;
    let view = View {
        page,
        subscriptions: subscriptions(console, found.items.iter().map(|it| &*it.item.group)),
        letters: found.items,
        next: found.next.map(|cursor| query.at(&cursor)),
        silent: found.silent,
        query,
    };
    Ok(Html(view.render()?).into_response())
}
