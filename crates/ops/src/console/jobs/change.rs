use axum::extract::{Path, State};
use axum::response::Response;
use futures::future::join_all;
use uuid::Uuid;

use super::HERE;
use crate::client::{Client, JobSelection};
use crate::console::fields::Sent;
use crate::console::refusal::{refused, why};
use crate::console::{Console, Fields, Notice, PageError, Session, Topic};
use crate::error::{Error, with_cause};
use crate::jobs::JobChange;
use crate::plain::count;

/// Returns the change that a path names.
pub(super) fn named(act: &str) -> Result<&'static JobChange, PageError> {
    JobChange::named(act).ok_or_else(|| PageError::not_found("Jobs can be retried and discarded."))
}

/// Retries or discards the selected jobs.
pub(super) async fn selected(
    State(console): State<Console>,
    session: Session,
    Path(act): Path<String>,
    Sent(fields): Sent,
) -> Result<Response, PageError> {
    let change = named(&act)?;
    Ok(match change_selected(&console, &session, change, &fields).await {
        Ok(notice) => notice.back(&fields, HERE),
        Err(error) => refused(&error, &fields, HERE),
    })
}

async fn change_selected(
    console: &Console,
    session: &Session,
    change: &JobChange,
    fields: &Fields,
) -> Result<Notice, Error> {
    let why = why(fields)?;
    let services = console.services(session);
    let mut parts: Vec<(Client, JobSelection)> = Vec::new();
    for job in fields.all("job") {
        let chosen = job.rsplit_once('/').and_then(|(it, id)| Some((it, id.parse::<Uuid>().ok()?)));
        let missing = || Error::Refused("A selected row has no job. Load the page again.".into());
        let (service, id) = chosen.ok_or_else(missing)?;
        let part = parts.iter_mut().find(|(client, _)| client.service == service);
        if let Some((_, JobSelection::Ids(ids))) = part {
            ids.push(id);
        } else if let Some(client) = services.named(Some(service))?.into_iter().next() {
            parts.push((client, JobSelection::Ids(vec![id])));
        }
    }
    if parts.is_empty() {
        return Err(Error::Refused("No job was selected.".into()));
    }
    send(console, &parts, change, why).await
}

/// Sends the change to all services concurrently. A service that refuses or fails is named, and the
/// others are called all the same.
pub(super) async fn send(
    console: &Console,
    parts: &[(Client, JobSelection)],
    change: &JobChange,
    why: &str,
) -> Result<Notice, Error> {
    let sending =
        parts.iter().map(|(client, selection)| client.change_jobs(change.act, selection, why));
    let answers = join_all(sending).await;
    let (mut messages, mut is_bad) = (Vec::new(), false);
    for ((client, _), answer) in parts.iter().zip(answers) {
        match answer {
            Ok(changed) => {
                let jobs = count(changed.jobs, "job", "jobs");
                messages.push(format!("{jobs} of {} {}.", client.service, change.done));
                if changed.skipped > 0 {
                    messages.push(format!("{} {}.", changed.skipped, change.skipped));
                }
            }
            Err(error) if parts.len() == 1 => return Err(error),
            Err(error) => {
                is_bad = true;
                messages.push(format!("{}: {}.", client.service, with_cause(&error)));
            }
        }
    }
    console.live.signal(&[Topic::Jobs, Topic::History]);
    let messages = messages.join(" ");
    Ok(if is_bad { Notice::bad(messages) } else { Notice::new(messages) })
}
