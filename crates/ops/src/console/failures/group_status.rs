//! Acknowledges, ignores or reopens a group, with a note.

use axum::extract::State;
use axum::response::Response;

use super::chosen::one_service;
use crate::console::fields::Sent;
use crate::console::refusal::refused;
use crate::console::{Console, Fields, Notice, Session, Topic};
use crate::error::Error;
use crate::plain::plain;

const GROUPS: &str = "/failures";

/// Sets the status of a group in its service. The note is replaced; the form contains the current
/// one.
pub(super) async fn set(
    State(console): State<Console>,
    session: Session,
    Sent(fields): Sent,
) -> Response {
    match try_set(&console, &session, &fields).await {
        Ok(notice) => notice.back(&fields, GROUPS),
        Err(error) => refused(&error, &fields, GROUPS),
    }
}

async fn try_set(console: &Console, session: &Session, fields: &Fields) -> Result<Notice, Error> {
    let needed = |name| {
        let missing = || Error::Refused(format!("The form has no {name}. Load the page again."));
        fields.one(name).ok_or_else(missing)
    };
    let (service, fingerprint, status) =
        (needed("service")?, needed("fingerprint")?, needed("status")?);
    if !matches!(status, "open" | "acknowledged" | "ignored") {
        return Err(Error::Refused("status: open, acknowledged or ignored".into()));
    }
    let client = one_service(&console.services(session), service)?;
    let group = client.set_letter_group(fingerprint, status, fields.one("note")).await?;
    console.live.signal(&[Topic::Failures, Topic::History]);
    let notice = Notice::new(format!("{}: {status}.", plain(&group.reason)));
    let Some(was) = fields.one("was") else { return Ok(notice) };
    // Resolved and regressed are set automatically, so the operator's status was open.
    let was = if matches!(was, "acknowledged" | "ignored") { was } else { "open" };
    let undo = [
        ("service", Some(service)),
        ("fingerprint", Some(fingerprint)),
        ("status", Some(was)),
        ("note", fields.one("was_note")),
        ("back", fields.one("back")),
    ];
    let undo = undo.into_iter().filter_map(|(name, value)| Some((name.into(), value?.into())));
    Ok(notice.undo("/failures/groups", undo.collect()))
}
