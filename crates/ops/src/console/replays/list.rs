use askama::Template;
use axum::extract::State;
use axum::response::{Html, IntoResponse, Response};

use crate::client::Replay;
use crate::console::address::address;
use crate::console::pages::{self, Of, Paged, Source};
use crate::console::silent::Silent;
use crate::console::{Area, Console, Fields, Page, PageError, Session, filters};
use crate::dlq::words;

const SIZE: usize = 50;

impl Paged for Replay {
    fn id(&self) -> String {
        self.id.to_string()
    }
}

#[derive(Template)]
#[template(path = "replays/list.html")]
struct View {
    page: Page,
    here: String,
    group: String,
    replays: Vec<Of<Replay>>,
    is_first: bool,
    first: String,
    next: Option<String>,
    silent: Vec<Silent>,
}

impl View {
    fn path(it: &Of<Replay>) -> String {
        super::path(&it.service, it.item.id)
    }

    fn progress(replay: &Replay) -> String {
        let outcomes = words::outcomes(&replay.outcomes, replay.rehearsal);
        match &*outcomes {
            "" if replay.status == "queued" => words::queued(&replay.group),
            "" => "nothing settled yet".into(),
            _ => outcomes,
        }
    }
}

pub(super) async fn show(
    State(console): State<Console>,
    session: Session,
    fields: Fields,
) -> Result<Response, PageError> {
    let page = console.page("Replays", Area::Failures, &session);
    let group = fields.one("group").map(ToOwned::to_owned);
    let clients = console.services(&session).chosen(group.as_deref())?;
    let sources = clients.into_iter().map(|client| {
        let group = group.clone();
        Source::new(client, "replays", move |client| client.replays(group.as_deref()))
    });
    let cursor = fields.one("cursor");
    let found = pages::page(sources.collect(), cursor, SIZE, |_| true).await?;
    let at = |cursor: Option<&str>| {
        let pairs = [("group", group.as_deref()), ("cursor", cursor)];
        let given = pairs.into_iter().filter_map(|(name, value)| Some((name, value?)));
        address("/replays", &given.collect::<Vec<_>>())
    };
    let here = at(cursor);
    let view = View {
        page,
        here,
        replays: found.items,
        is_first: cursor.is_none(),
        first: at(None),
        next: found.next.map(|cursor| at(Some(&cursor))),
        silent: found.silent,
        group: group.clone().unwrap_or_default(),
    };
    Ok(Html(view.render()?).into_response())
}
