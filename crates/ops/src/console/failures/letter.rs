//! The page of a letter: failure, content, origin, and possible acts.

use askama::Template;
use axum::extract::{Path, State};
use axum::response::{Html, IntoResponse, Response};
use uuid::Uuid;

use super::chosen::one_service;
use super::difference::{Line, difference};
use super::payload::Payload;
use super::query::Query;
use crate::client::{Bytes, Letter};
use crate::console::address::{address, escaped};
use crate::console::{Area, Console, Page, PageError, Session, filters, replays};
use crate::plain::plain_bytes;

#[derive(Template)]
#[template(path = "failures/letter.html")]
struct Shown {
    page: Page,
    here: String,
    service: String,
    letter: Letter,
    key: String,
    headers: Vec<Header>,
    payload: Payload,
    /// The payload before the edit.
    before: Option<Payload>,
    trace: Option<String>,
}

/// A header of the record, with visible control characters.
struct Header {
    name: String,
    value: String,
}

impl Shown {
    fn new(page: Page, service: String, letter: Letter) -> Self {
        let text = |bytes: Option<&[u8]>| bytes.map_or_else(|| "none".into(), plain_bytes);
        let headers = letter
            .header_bytes()
            .map(|(name, value)| Header { name: name.to_owned(), value: text(value) })
            .collect();
        Self {
            page,
            here: path(&service, letter.summary.id),
            key: text(letter.key.as_ref().map(Bytes::as_slice)),
            headers,
            payload: Payload::new(letter.value.as_ref()),
            before: letter.edit.as_ref().map(|edit| Payload::new(edit.before.as_ref())),
            trace: trace(&letter),
            service,
            letter,
        }
    }

    fn is_open(&self) -> bool {
        matches!(&*self.letter.summary.status, "dead" | "parked")
    }

    /// Returns the lines that an edit has changed.
    fn difference<'a>(&'a self, before: &'a Payload) -> Vec<Line<'a>> {
        difference(&before.text, &self.payload.text)
    }

    fn is_discarded(&self) -> bool {
        self.letter.summary.status == "discarded"
    }

    /// Returns the address of the letter's flow, by its correlation id or another id.
    fn flow(&self) -> Option<String> {
        let it = &self.letter.summary;
        let key = it.correlation_id.as_ref().or(it.event_id.as_ref()).or(it.subject.as_ref())?;
        Some(address("/flow", &[("q", key)]))
    }

    /// Returns the address of the letters that failed for the same reason.
    fn group(&self) -> String {
        let it = &self.letter.summary;
        Query { status: "any".into(), ..Query::of_group(&it.group, &it.fingerprint) }.address()
    }

    fn of_subject(&self) -> Option<String> {
        let subject = self.letter.summary.subject.clone()?;
        let query = Query { view: "letters".into(), status: "any".into(), ..Query::default() };
        Some(Query { subject, ..query }.address())
    }

    fn replays(&self) -> String {
        address("/replays", &[("group", &self.letter.summary.group)])
    }

    /// Returns the causes of an error, one per line, without the error itself, which is the first
    /// of them.
    fn causes<'a>(message: &'a str, causes: &'a str) -> impl Iterator<Item = &'a str> {
        let is_first = causes.lines().next() == Some(message);
        causes.lines().skip(usize::from(is_first)).filter(|line| !line.is_empty())
    }

    fn checked(&self) -> String {
        let it = &self.letter.summary;
        format!("{}/{}/{}", self.service, it.id, it.group)
    }

    fn replay(&self, id: &Uuid) -> String {
        replays::path(&self.service, *id)
    }
}

/// Returns the path of a letter's page.
pub(crate) fn path(service: &str, id: Uuid) -> String {
    format!("/failures/letters/{}/{id}", escaped(service))
}

/// Returns the trace id of `00-<trace>-<span>-<flags>`.
fn trace(letter: &Letter) -> Option<String> {
    let trace = letter.traceparent.as_deref()?.split('-').nth(1)?;
    let is_id = trace.len() == 32 && trace.bytes().all(|it| it.is_ascii_hexdigit());
    is_id.then(|| trace.to_owned())
}

pub(super) async fn show(
    State(console): State<Console>,
    session: Session,
    Path((service, id)): Path<(String, Uuid)>,
) -> Result<Response, PageError> {
    let page = console.page("Dead letter", Area::Failures, &session);
    let client = one_service(&console.services(&session), &service)?;
    let letter = client.letter(id).await?.into_known();
    Ok(Html(Shown::new(page, service, letter).render()?).into_response())
}
