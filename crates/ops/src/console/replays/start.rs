//! Starts the replay of a rehearsal's letters.

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use uuid::Uuid;

use crate::client::{Client, NewReplay, Replay, Selection};
use crate::console::address::address;
use crate::console::failures::{Query, one_service};
use crate::console::fields::Sent;
use crate::console::refusal::{not_started, why};
use crate::console::{Console, Fields, Session, Topic};
use crate::error::Error;

/// Maximum number of letters in a request by id, which take about 800 kB.
pub(super) const MOST_BY_ID: u64 = 20_000;
const PAGE: usize = 1_000;
/// The outcomes that count as success.
const WELL: [&str; 4] = ["processed", "duplicate", "superseded", "ignored"];

/// Requests the replay of all rehearsed letters, or of those that would end well. Redirects to it.
pub(super) async fn start(
    State(console): State<Console>,
    session: Session,
    Path((service, id)): Path<(String, Uuid)>,
    Sent(fields): Sent,
) -> Response {
    match request(&console, &session, (&service, id), &fields).await {
        Ok(started) => Redirect::to(&super::path(&service, started)).into_response(),
        Err(error) => {
            // Back to the rehearsal, with its filter.
            let rehearsal =
                address(&super::path(&service, id), &Query::read(&fields).filter_pairs());
            not_started(&error, &fields, &rehearsal)
        }
    }
}

async fn request(
    console: &Console,
    session: &Session,
    (service, id): (&str, Uuid),
    fields: &Fields,
) -> Result<Uuid, Error> {
    let client = one_service(&console.services(session), service)?;
    let rehearsal = client.replay(id).await?.into_known().replay;
    if !rehearsal.rehearsal || rehearsal.status != "done" {
        let text = "Only a rehearsal that is done can be followed by its replay.";
        return Err(Error::Refused(text.into()));
    }
    let Limits { rate, stop_after } = Limits::read(fields)?;
    let why = why(fields)?.to_owned();
    let new = NewReplay {
        selection: selection(&client, &rehearsal, fields).await?,
        group: rehearsal.group,
        rehearse: false,
        rate,
        ramp: fields.has("ramp"),
        stop_after,
        force: fields.has("force"),
        why: Some(why),
    };
    let started = client.start_replay(&new).await?;
    console.live.signal(&[Topic::Failures, Topic::History]);
    Ok(started.id)
}

struct Limits {
    rate: Option<f64>,
    stop_after: Option<u32>,
}

impl Limits {
    fn read(fields: &Fields) -> Result<Self, Error> {
        let refused = |text: &str| Error::Refused(text.to_owned());
        let rate = fields.one("rate").map(str::parse::<f64>).transpose();
        let is_rate = |rate: &f64| rate.is_finite() && *rate > 0.0;
        let stop_after = fields.one("stop_after").map(str::parse).transpose();
        Ok(Self {
            rate: rate
                .ok()
                .filter(|rate| rate.as_ref().is_none_or(is_rate))
                .ok_or_else(|| refused("Letters a second: a number such as 50 or 0.5."))?,
            stop_after: stop_after
                .map_err(|_| refused("Pause after failures: a number, at least 1."))?,
        })
    }
}

/// Returns the letters to replay.
async fn selection(
    client: &Client,
    rehearsal: &Replay,
    fields: &Fields,
) -> Result<Selection, Error> {
    if fields.one("which") == Some("well") {
        return Ok(Selection::Ids(ids(client, rehearsal, &WELL.map(Some)).await?));
    }
    let query = Query::read(fields);
    // Exactly the rehearsed letters, as long as they can be selected by id.
    if query.filter_pairs().is_empty() || rehearsal.selected <= MOST_BY_ID {
        return Ok(Selection::Ids(ids(client, rehearsal, &[None]).await?));
    }
    let filter = query.filter()?;
    // Letters that died after the rehearsal's request were not rehearsed.
    Ok(Selection::Filter(filter.before(&rehearsal.requested_at)))
}

/// Returns the letters of a rehearsal with these outcomes.
async fn ids(
    client: &Client,
    rehearsal: &Replay,
    outcomes: &[Option<&str>],
) -> Result<Vec<Uuid>, Error> {
    let mut ids = Vec::new();
    for outcome in outcomes {
        let mut cursor = None;
        loop {
            let page =
                client.replayed_letters(rehearsal.id, *outcome).of_page(PAGE).starting_at(cursor);
            let (letters, next) = page.page_and_cursor().await?;
            ids.extend(letters.iter().map(|it| it.id));
            if ids.len() as u64 > MOST_BY_ID {
                let text = format!(
                    "These are more than {MOST_BY_ID} letters, too many to name one by one. Filter them, and rehearse everything that matches."
                );
                return Err(Error::Refused(text));
            }
            cursor = next;
            if cursor.is_none() {
                break;
            }
        }
    }
    Ok(ids)
}
