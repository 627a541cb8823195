//! Edits a payload. Fails if another operator has edited it since the page was read.

use std::collections::BTreeMap;

use askama::Template;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{MethodRouter, get};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::chosen::one_service;
use super::letter::path;
use super::payload::{compact, editable};
use super::rehearse;
use crate::client::{Bytes, Letter, Selection};
use crate::console::fields::Sent;
use crate::console::refusal::{not_started, refused};
use crate::console::{Area, Console, Fields, Notice, Page, PageError, Session, Topic, filters};
use crate::error::Error;

/// Maximum size of the form: the 4 MiB that a service accepts, of which a browser may encode each
/// byte as three, and the reason.
const LARGEST: usize = 13 * 1024 * 1024;
const STRUCTURED: &[u8] = b"application/cloudevents+json";

#[derive(Template)]
#[template(path = "failures/edit.html")]
struct Form<'a> {
    page: Page,
    path: String,
    letter: &'a Letter,
    /// The text in the field.
    text: &'a str,
    why: &'a str,
    /// A digest of the payload from which the text was made.
    seen: String,
    /// Problems of the text.
    troubles: Vec<String>,
}

pub(super) fn route() -> MethodRouter<Console> {
    get(form).post(edit).layer(DefaultBodyLimit::max(LARGEST))
}

async fn form(
    State(console): State<Console>,
    session: Session,
    Path((service, id)): Path<(String, Uuid)>,
) -> Result<Response, PageError> {
    let client = one_service(&console.services(&session), &service)?;
    let letter = client.letter(id).await?.into_known();
    let text = editable(&data_of(&letter)?);
    let form = Form {
        page: console.page("Edit a payload", Area::Failures, &session),
        path: path(&service, id),
        seen: seen(&letter),
        letter: &letter,
        text: &text,
        why: "",
        troubles: Vec::new(),
    };
    Ok(Html(form.render()?).into_response())
}

async fn edit(
    State(console): State<Console>,
    session: Session,
    Path((service, id)): Path<(String, Uuid)>,
    Sent(fields): Sent,
) -> Result<Response, PageError> {
    let client = one_service(&console.services(&session), &service)?;
    let letter = client.letter(id).await?.into_known();
    let path = path(&service, id);
    let again = |status, troubles| {
        let form = Form {
            page: console.page("Edit a payload", Area::Failures, &session),
            path: path.clone(),
            seen: seen(&letter),
            letter: &letter,
            text: fields.one("value").unwrap_or_default(),
            why: fields.one("why").unwrap_or_default(),
            troubles,
        };
        Ok((status, Html(form.render()?)).into_response())
    };
    let (value, why) = match checked(&fields, &letter) {
        Ok(checked) => checked,
        Err((status, trouble)) => return again(status, vec![trouble]),
    };
    match client.edit(id, &value, why).await {
        Ok(_) => console.live.signal(&[Topic::Failures, Topic::History]),
        // Violations of the schema, separated by lines or semicolons.
        Err(Error::Problem { status: 422, detail, .. }) => {
            let troubles = detail.split(['\n', ';']).map(|it| it.trim().to_owned()).collect();
            return again(StatusCode::UNPROCESSABLE_ENTITY, troubles);
        }
        Err(error) => return Ok(refused(&error, &fields, &path)),
    }
    if !fields.has("rehearse") {
        let notice = Notice::new("The payload is replaced. Rehearse it before you replay it.");
        return Ok(notice.back(&fields, &path));
    }
    let group = letter.summary.group.clone();
    match rehearse::start(&console, &client, group, Selection::Ids(vec![id]), false).await {
        Ok(started) => Ok(Redirect::to(&started).into_response()),
        Err(error) => Ok(not_started(&error, &fields, &path)),
    }
}

/// Returns the new payload as raw JSON, so that no number is rounded, and the reason.
fn checked<'a>(
    fields: &'a Fields,
    letter: &Letter,
) -> Result<(Box<RawValue>, &'a str), (StatusCode, String)> {
    if fields.one("seen") != Some(&seen(letter)) {
        let by = letter.edit.as_ref().map(|edit| format!(" by {}", edit.by)).unwrap_or_default();
        let text = format!(
            "The payload was changed{by} while you edited it; the letter's page shows it. Save again to replace it."
        );
        return Err((StatusCode::CONFLICT, text));
    }
    let unusable = |text: String| (StatusCode::UNPROCESSABLE_ENTITY, text);
    let text = fields.one("value").unwrap_or_default();
    serde_json::from_str::<IgnoredAny>(text)
        .map_err(|error| unusable(format!("The payload is not JSON: {error}.")))?;
    let value = RawValue::from_string(compact(text))
        .map_err(|error| unusable(format!("The payload is not JSON: {error}.")))?;
    let why = fields
        .one("why")
        .ok_or_else(|| unusable("Give a reason: it is recorded with your name.".into()))?;
    Ok((value, why))
}

/// Returns the data of the event: the value of the record, or a part of it in structured mode.
fn data_of(letter: &Letter) -> Result<String, PageError> {
    let value = letter.value.as_ref().map(Bytes::as_slice).unwrap_or_default();
    let text = std::str::from_utf8(value).map_err(|_| {
        PageError::usage("The payload is binary and can't be edited as JSON. Discard it, or let its producer send it again.")
    })?;
    let content_type = letter.header_bytes().find(|(name, _)| *name == "content-type");
    let is_structured = matches!(content_type, Some((_, Some(it))) if it.starts_with(STRUCTURED));
    let whole = || serde_json::from_str::<BTreeMap<String, Box<RawValue>>>(text).ok();
    let data = is_structured.then(whole).flatten().and_then(|mut it| it.remove("data"));
    Ok(data.map_or_else(|| text.to_owned(), |data| data.get().to_owned()))
}

/// Returns a digest of the payload.
fn seen(letter: &Letter) -> String {
    let value = letter.value.as_ref().map(Bytes::as_slice).unwrap_or_default();
    URL_SAFE_NO_PAD.encode(&digest(&SHA256, value).as_ref()[..12])
}
