use askama::Template;
use axum::extract::{Path, State};
use axum::response::Html;
use uuid::Uuid;

use super::list::JobRow;
use crate::client::JobDetails;
use crate::console::payload::pretty;
use crate::console::{Area, Console, Page, PageError, Session, filters};

#[derive(Template)]
#[template(path = "jobs/job.html")]
struct JobPage {
    page: Page,
    here: String,
    row: JobRow,
    job: JobDetails,
    payload: String,
}

pub(super) async fn show(
    State(console): State<Console>,
    session: Session,
    Path((service, id)): Path<(String, Uuid)>,
) -> Result<Html<String>, PageError> {
    let page = console.page("Job", Area::Jobs, &session);
    let clients = console.services(&session).named(Some(&service))?;
    let client =
        clients.first().ok_or_else(|| PageError::not_found("There is no such service."))?;
    let (job, payload) = client.job_with_payload(id).await?;
    let row = JobRow::of(&job.job);
    let here = row.path.clone();
    let payload = pretty(payload.get());
    Ok(Html(JobPage { page, here, row, job, payload }.render()?))
}
