//! Pause, resume and cancel.

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use uuid::Uuid;

use crate::console::failures::one_service;
use crate::console::fields::Sent;
use crate::console::refusal::{refused, why};
use crate::console::{Console, Fields, Session, Topic};
use crate::error::Error;

pub(super) async fn steer(
    State(console): State<Console>,
    session: Session,
    Path((service, id, act)): Path<(String, Uuid, String)>,
    Sent(fields): Sent,
) -> Response {
    let here = super::path(&service, id);
    match request(&console, &session, (&service, id, &act), &fields).await {
        Ok(()) => fields.back(&here).into_response(),
        Err(error) => refused(&error, &fields, &here),
    }
}

async fn request(
    console: &Console,
    session: &Session,
    (service, id, act): (&str, Uuid, &str),
    fields: &Fields,
) -> Result<(), Error> {
    if !matches!(act, "pause" | "resume" | "cancel") {
        return Err(Error::Refused("A replay can be paused, resumed and cancelled.".into()));
    }
    let client = one_service(&console.services(session), service)?;
    client.change_replay(id, act, why(fields)?).await?;
    console.live.signal(&[Topic::Failures, Topic::History]);
    Ok(())
}
