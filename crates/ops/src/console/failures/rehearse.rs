//! Rehearsals: the handlers run and are rolled back, which shows the outcomes of a replay before it
//! starts.

use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};

use super::chosen::{Chosen, chosen, is_all};
use super::query::Query;
use crate::client::{Client, NewReplay, Selection};
use crate::console::address::address;
use crate::console::fields::Sent;
use crate::console::refusal::{may_have_started, not_started};
use crate::console::{Console, Fields, Notice, Session, Topic, replays};
use crate::error::Error;
use crate::plain::count;

/// Requests a rehearsal for each subscription of the selected letters. Redirects to it, or to the
/// list if there are several.
pub(super) async fn rehearse(
    State(console): State<Console>,
    session: Session,
    Sent(fields): Sent,
) -> Response {
    match request_all(&console, &session, &fields).await {
        Err(error) => not_started(&error, &fields, "/failures"),
        Ok(Requested { paths, failures }) if paths.is_empty() => {
            Notice::bad(failures.join("\n")).back(&fields, "/failures")
        }
        Ok(Requested { paths, failures }) if !failures.is_empty() => {
            let rehearsals = count(paths.len() as u64, "rehearsal is", "rehearsals are");
            let text = format!("{rehearsals} requested. {}", failures.join("\n"));
            Notice::bad(text).back(&Fields::default(), "/replays")
        }
        Ok(Requested { paths, .. }) if paths.len() > 1 => {
            let text =
                format!("{} rehearsals are requested, one for each subscription.", paths.len());
            Notice::new(text).back(&Fields::default(), "/replays")
        }
        Ok(Requested { paths, .. }) => {
            Redirect::to(paths.first().map_or("/replays", |path| path)).into_response()
        }
    }
}

/// Result of requests for several subscriptions.
struct Requested {
    /// The pages of the rehearsals.
    paths: Vec<String>,
    /// The subscriptions that failed, each with the reason.
    failures: Vec<String>,
}

/// Requests all rehearsals, also if one of several fails.
async fn request_all(
    console: &Console,
    session: &Session,
    fields: &Fields,
) -> Result<Requested, Error> {
    let query = Query::read(fields).fixed()?;
    let all = chosen(&console.services(session), fields)?;
    let (is_one, force) = (all.len() == 1, fields.has("force"));
    let mut requested = Requested { paths: Vec::new(), failures: Vec::new() };
    for Chosen { client, group, selection } in all {
        match start(console, &client, group.clone(), selection, force).await {
            // The address contains the filter, so that the same letters can be replayed.
            Ok(path) if is_all(fields) => {
                requested.paths.push(address(&path, &query.filter_pairs()));
            }
            Ok(path) => requested.paths.push(path),
            Err(error) if is_one => return Err(error),
            Err(error) => requested.failures.push(format!("{group}: {}", may_have_started(&error))),
        }
    }
    Ok(requested)
}

/// Requests a rehearsal of letters. Returns the path of its page.
pub(super) async fn start(
    console: &Console,
    client: &Client,
    group: String,
    selection: Selection,
    force: bool,
) -> Result<String, Error> {
    let new = NewReplay {
        group,
        selection,
        rehearse: true,
        rate: None,
        ramp: false,
        stop_after: None,
        force,
        why: None,
    };
    let started = client.start_replay(&new).await?;
    console.live.signal(&[Topic::Failures, Topic::History]);
    Ok(replays::path(&client.service, started.id))
}
