//! Groups of letters of all services that failed for the same reason.

use askama::Template;
use axum::response::{Html, IntoResponse, Response};

use super::query::{Query, STATES};
use super::{asked, subscriptions};
use crate::client::LetterGroup;
use crate::console::pages::{self, Of, Paged, Source};
use crate::console::silent::Silent;
use crate::console::{Area, Console, Page, PageError, Session, filters};

const SIZE: usize = 50;

impl Paged for LetterGroup {
    fn id(&self) -> String {
        format!("{} {}", self.group, self.fingerprint)
    }
}

#[derive(Template)]
#[template(path = "failures/groups.html")]
struct View {
    page: Page,
    query: Query,
    subscriptions: Vec<String>,
    groups: Vec<Of<LetterGroup>>,
    next: Option<String>,
    silent: Vec<Silent>,
}

impl View {
    /// Returns the address of the letters of a group, of all statuses if none is open.
    fn letters(group: &LetterGroup) -> String {
        let mut query = Query::of_group(&group.group, &group.fingerprint);
        if group.open == 0 {
            "any".clone_into(&mut query.status);
        }
        query.address()
    }

    /// Returns a part for the ids of a group's elements, which stays the same when the list is
    /// refreshed.
    fn anchor(group: &LetterGroup) -> String {
        let is_plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        let name = format!("{}-{}", group.group, group.fingerprint);
        name.chars().filter(is_plain).collect()
    }

    fn here(&self) -> String {
        self.query.address()
    }

    fn states() -> &'static [(&'static str, &'static str)] {
        &STATES
    }

    /// Returns the address of the same filter in the view of letters.
    fn as_letters(&self) -> String {
        let query = self.query.clone();
        Query { view: "letters".into(), state: String::new(), cursor: String::new(), ..query }
            .address()
    }
}

pub(super) async fn show(
    console: &Console,
    session: &Session,
    query: Query,
) -> Result<Response, PageError> {
    let page = console.page("Failures", Area::Failures, session);
    let clients = asked(&console.services(session), &query)?;
    let group = query.group().map(ToOwned::to_owned);
    let sources = clients.into_iter().map(|client| {
        let group = group.clone();
        Source::new(client, "groups", move |client| client.letter_groups(group.as_deref()))
    });
    let cursor = Some(&*query.cursor).filter(|it| !it.is_empty());
    let found = pages::page(sources.collect(), cursor, SIZE, |it| matches(&query, it)).await?;
    let view = View {
        page,
        subscriptions: subscriptions(console, found.items.iter().map(|it| &*it.item.group)),
        groups: found.items,
        next: found.next.map(|cursor| query.at(&cursor)),
        silent: found.silent,
        query,
    };
    Ok(Html(view.render()?).into_response())
}

/// Returns whether a group matches. The services filter groups by subscription only, and there are
/// few groups.
fn matches(query: &Query, group: &LetterGroup) -> bool {
    let state = match &*query.state {
        "any" => true,
        "" => group.open > 0 && group.status != "ignored",
        state => group.status == state,
    };
    let contains = |text: &str, part: &str| text.to_lowercase().contains(&part.to_lowercase());
    state
        && (query.event_type.is_empty() || group.event_type.as_deref() == Some(&query.event_type))
        && (query.reason.is_empty() || contains(&group.reason, &query.reason))
        && (query.fingerprint.is_empty() || group.fingerprint == query.fingerprint)
}
