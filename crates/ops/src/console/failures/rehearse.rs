//! Rehearsals: the handlers run and are rolled back, which shows the outcomes of a replay before it
//! starts.

use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};

use super::chosen::{Chosen, chosen, is_all};
use super::query::Query;
use crate::client::{Client, NewReplay, Selection};
use crate::console::address::address;
use crate::console::fields::Sent;
use crate::console::refusal::not_started;
use crate::console::{Console, Fields, Notice, Session, Topic, replays};
use crate::error::Error;

/// Requests a rehearsal for each subscription of the selected letters. Redirects to it, or to the
/// list if there are several.
pub(super) async fn rehearse(
    State(console): State<Console>,
    session: Session,
    Sent(fields): Sent,
) -> Response {
    match request_all(&console, &session, &fields).await {
        Err(error) => not_started(&error, &fields, "/failures"),
        Ok(paths) if paths.len() > 1 => {
            let text =
                format!("{} rehearsals are requested, one for each subscription.", paths.len());
            Notice::new(text).back(&Fields::default(), "/replays")
        }
        Ok(paths) => Redirect::to(paths.first().map_or("/replays", |path| path)).into_response(),
    }
}

async fn request_all(
    console: &Console,
    session: &Session,
    fields: &Fields,
) -> Result<Vec<String>, Error> {
    let query = Query::read(fields).fixed()?;
    let mut paths = Vec::new();
    for Chosen { client, group, selection } in chosen(&console.services(session), fields)? {
        let path = start(console, &client, group, selection).await?;
        // The address contains the filter, so that the same letters can be replayed.
        paths.push(if is_all(fields) { address(&path, &query.filter_pairs()) } else { path });
    }
    Ok(paths)
}

/// Requests a rehearsal of letters. Returns the path of its page.
pub(super) async fn start(
    console: &Console,
    client: &Client,
    group: String,
    selection: Selection,
) -> Result<String, Error> {
    let new = NewReplay {
        group,
        selection,
        rehearse: true,
        rate: None,
        ramp: false,
        stop_after: None,
        force: false,
        why: None,
    };
    let started = client.start_replay(&new).await?;
    console.live.signal(&[Topic::Failures, Topic::History]);
    Ok(replays::path(&client.service, started.id))
}
