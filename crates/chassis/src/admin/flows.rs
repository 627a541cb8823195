//! `/flows/{id}` on the admin port: steps and open work of the flows of an id. It requires no
//! token: payloads are never shown, and errors only with an operator's token.

use std::collections::BTreeSet;
use std::time::Duration;

use ::jobs::FlowJob;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Json as Body, Router};
use consumer::{FlowLetter, FlowReplay, InboxEntry, ParkedMessage};
use outbox::{WaitingEvent, WaitingEvents};
use serde::Serialize;
use serde_json::{Map, Value};
use time::OffsetDateTime;
use uuid::Uuid;

use super::Admin;
use super::concealed::{conceal, conceal_step};
use super::operator::Operator;
use crate::flow::{FoundFlows, rfc3339};
use crate::http::{Problem, Query};

/// Maximum length of an id, in bytes.
const MAX_ID: usize = 512;
/// Maximum number of events to look up in the inbox.
const MAX_EVENTS: usize = 200;
/// Maximum number of flows.
const MAX_FLOWS: usize = 20;
/// Time limit of each part.
const PART: Duration = Duration::from_secs(3);

pub(super) fn routes() -> Router<Admin> {
    Router::new().route("/flows/{id}", get(find)).route("/flows/", get(async || not_an_id()))
}

/// Waiting or failed work, or a replay.
#[derive(Serialize)]
#[serde(tag = "kind")]
enum Open {
    #[serde(rename = "outbox")]
    Outbox(WaitingEvent),
    #[serde(rename = "parked")]
    Parked(ParkedMessage),
    #[serde(rename = "dead letter")]
    Letter(FlowLetter),
    #[serde(rename = "job")]
    Job(FlowJob),
    #[serde(rename = "replay")]
    Replay(FlowReplay),
}

#[derive(Serialize)]
struct Flow {
    service: &'static str,
    now: String,
    recording: bool,
    correlation_ids: Vec<String>,
    steps: Vec<Map<String, Value>>,
    truncated: bool,
    lost: u64,
    open: Vec<Open>,
    inbox: Vec<InboxEntry>,
    /// Parts that could not be read, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unavailable: Vec<String>,
}

async fn find(
    State(admin): State<Admin>,
    operator: Option<Operator>,
    id: Result<Path<String>, PathRejection>,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Body<Flow>, Problem> {
    // A path that is not UTF-8 contains no id.
    let Path(id) = id.map_err(|_| not_an_id())?;
    let (id, events) = (checked_id(&id)?, checked_events(&query)?);
    let mut unread = UnreadParts::default();
    let found = unread.part("steps", admin.flows.find(&admin.pool, id)).await;
    let search = Search::new(&admin, id, &found);
    let open = search.open(&mut unread).await;
    let inbox = search.inbox(events, &open, &mut unread).await;
    let mut flow = Flow {
        service: admin.service,
        now: rfc3339(OffsetDateTime::now_utc()),
        recording: admin.flows.steps.is_on(),
        correlation_ids: all_flows(&found, &open),
        truncated: found.is_truncated,
        steps: found.steps,
        lost: admin.flows.steps.lost(),
        open,
        inbox,
        unavailable: unread.0,
    };
    if operator.is_none() {
        flow.conceal();
    }
    Ok(Body(flow))
}

impl Flow {
    /// Conceals the details for operators.
    fn conceal(&mut self) {
        self.steps.iter_mut().for_each(conceal_step);
        for open in &mut self.open {
            match open {
                Open::Parked(message) => conceal(&mut message.error),
                Open::Letter(letter) => conceal([&mut letter.reason]),
                Open::Job(job) => conceal(&mut job.error),
                Open::Outbox(_) | Open::Replay(_) => {}
            }
        }
    }
}

/// Parts that could not be read, and why.
#[derive(Default)]
struct UnreadParts(Vec<String>);

impl UnreadParts {
    /// Reads a part. If that fails, records the reason and returns an empty part.
    async fn part<T: Default>(
        &mut self,
        name: &str,
        reading: impl Future<Output = sqlx::Result<T>>,
    ) -> T {
        let read = pg::within(PART, reading).await;
        self.note(name, read)
    }

    fn note<T: Default>(&mut self, name: &str, read: sqlx::Result<T>) -> T {
        read.unwrap_or_else(|error| {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                part = name,
                "part of the flow not read"
            );
            self.0.push(format!("{name}: {error}"));
            T::default()
        })
    }
}

/// Ids to search all tables for.
struct Search<'a> {
    admin: &'a Admin,
    id: &'a str,
    /// Correlation ids of the flows; the id itself may be one without steps.
    flows: Vec<String>,
    subjects: Vec<String>,
    events: Vec<String>,
}

impl<'a> Search<'a> {
    fn new(admin: &'a Admin, id: &'a str, found: &FoundFlows) -> Self {
        let mut flows = found.correlation_ids.clone();
        if !flows.iter().any(|known| known == id) {
            flows.push(id.to_owned());
        }
        Self { admin, id, flows, subjects: found.all("subject"), events: found.all("event_id") }
    }

    /// Reads the open work of the flows from all tables, concurrently.
    async fn open(&self, unread: &mut UnreadParts) -> Vec<Open> {
        let Self { id, flows, .. } = self;
        let pool = &self.admin.pool;
        let letters = async {
            let letters = consumer::flow_letters(pool, id, flows).await?;
            let ids: Vec<Uuid> = letters.iter().map(|letter| letter.letter_id).collect();
            Ok((letters, consumer::flow_replays(pool, &ids).await?))
        };
        let (outbox, parked, letters, jobs) = tokio::join!(
            pg::within(PART, outbox::waiting_of_flow(pool, id, flows)),
            pg::within(PART, consumer::flow_parked(pool, id, flows)),
            pg::within(PART, letters),
            pg::within(PART, ::jobs::of_flow(pool, id, flows, &self.subjects)),
        );
        let outbox = unread.note("outbox", outbox.map(Some));
        let (letters, replays) = unread.note("dead letters", letters);
        if outbox.as_ref().is_some_and(|it| it.is_partial) {
            unread
                .0
                .push("outbox: only the oldest of many waiting events were searched".to_owned());
        }
        let outbox = outbox.map_or_else(Vec::new, |WaitingEvents { events, .. }| events);
        let parked = unread.note("parked", parked);
        let jobs = unread.note("jobs", jobs);
        let mut open: Vec<Open> = outbox.into_iter().map(Open::Outbox).collect();
        open.extend(parked.into_iter().map(Open::Parked));
        open.extend(letters.into_iter().map(Open::Letter));
        open.extend(jobs.into_iter().map(Open::Job));
        open.extend(replays.into_iter().map(Open::Replay));
        open
    }

    /// Reads the inbox rows of the given events, and of those in steps and dead letters.
    async fn inbox(
        &self,
        given: BTreeSet<String>,
        open: &[Open],
        unread: &mut UnreadParts,
    ) -> Vec<InboxEntry> {
        let of_letters = open.iter().filter_map(|it| match it {
            Open::Letter(letter) => letter.event_id.clone(),
            _ => None,
        });
        let more: BTreeSet<_> = self.events.iter().cloned().chain(of_letters).collect();
        let mut events: Vec<_> = given.iter().cloned().collect();
        events.extend(more.difference(&given).cloned());
        events.truncate(2 * MAX_EVENTS);
        unread.part("inbox", consumer::inbox_entries(&self.admin.pool, &events)).await
    }
}

/// Returns the correlation ids of the flows, including those without steps.
fn all_flows(found: &FoundFlows, open: &[Open]) -> Vec<String> {
    let mut all = found.correlation_ids.clone();
    let of_open = open.iter().filter_map(|it| match it {
        Open::Outbox(event) => event.correlation_id.as_ref(),
        Open::Parked(message) => message.correlation_id.as_ref(),
        Open::Letter(letter) => letter.correlation_id.as_ref(),
        Open::Job(job) => job.correlation_id.as_ref(),
        Open::Replay(_) => None,
    });
    for id in of_open {
        if !all.contains(id) {
            all.push(id.clone());
        }
    }
    all.truncate(MAX_FLOWS);
    all
}

fn checked_id(id: &str) -> Result<&str, Problem> {
    let is_text = !id.trim().is_empty() && !id.contains(char::is_control);
    if is_text && id.len() <= MAX_ID {
        return Ok(id);
    }
    Err(not_an_id())
}

fn not_an_id() -> Problem {
    Problem::bad_request(format!(
        "id must be a correlation id, a subject or an event id of 1 to {MAX_ID} bytes, without control characters"
    ))
}

/// Returns the event ids of the query: a comma-separated list, which may be repeated.
fn checked_events(query: &[(String, String)]) -> Result<BTreeSet<String>, Problem> {
    if let Some((name, _)) = query.iter().find(|(name, _)| name != "events") {
        return Err(Problem::bad_request(format!(
            "the query has the unknown field {name}; only events is known"
        )));
    }
    let events = query.iter().flat_map(|(_, list)| list.split(',')).filter(|id| !id.is_empty());
    let events: BTreeSet<_> = events.map(str::to_owned).collect();
    if events.len() > MAX_EVENTS {
        return Err(Problem::bad_request(format!("events must list at most {MAX_EVENTS} ids")));
    }
    if events.iter().any(|id| checked_id(id).is_err()) {
        return Err(Problem::bad_request("events must be event ids, separated by commas"));
    }
    Ok(events)
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;

    use super::*;

    #[test]
    fn what_is_no_id_is_refused() {
        let long = "x".repeat(MAX_ID + 1);
        for id in ["", " ", "a\0b", "a\nb", "\u{1b}[2J", &long] {
            let refused = checked_id(id).expect_err("refused").status();
            assert_eq!(refused, StatusCode::BAD_REQUEST, "{id:?}");
        }
        for id in ["1", "018f4e3a-0000-7000-8000-000000000001", "grüße 1", "%", "' or 1 = 1"] {
            assert_eq!(checked_id(id).ok(), Some(id));
        }
    }

    #[test]
    fn events_are_lists_of_ids() {
        let events = |lists: &[&str]| {
            let query: Vec<_> =
                lists.iter().map(|it| ("events".to_owned(), (*it).to_owned())).collect();
            checked_events(&query).map(|it| it.len()).map_err(|it| it.status())
        };
        assert_eq!((events(&[]), events(&[""])), (Ok(0), Ok(0)));
        assert_eq!(events(&["a,b,,a", "b,c"]), Ok(3));
        assert_eq!(events(&["a,b\0"]), Err(StatusCode::BAD_REQUEST));
        let many: Vec<_> = (0..=MAX_EVENTS).map(|n| n.to_string()).collect();
        assert_eq!(events(&[&many.join(",")]), Err(StatusCode::BAD_REQUEST));
        assert!(checked_events(&[("event".to_owned(), String::new())]).is_err());
    }
}
