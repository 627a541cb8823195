use askama::Template;
use axum::extract::State;
use axum::response::Html;

use super::JobQuery;
use crate::client::{Client, Job};
use crate::console::address::{address, escaped};
use crate::console::pages::{self, Paged, Source};
use crate::console::silent::Silent;
use crate::console::tone::Tone;
use crate::console::{Area, Console, Fields, Page, PageError, Session, filters};

/// Number of jobs on a page.
const PAGE: usize = 50;

#[derive(Template)]
#[template(path = "jobs/index.html")]
struct JobsPage {
    page: Page,
    /// The address with its filters.
    here: String,
    query: JobQuery,
    services: Vec<String>,
    jobs: Vec<JobRow>,
    silent: Vec<Silent>,
    /// The address of the first page, on any other page.
    first: Option<String>,
    next: Option<String>,
}

impl Paged for Job {
    fn id(&self) -> String {
        self.id.to_string()
    }
}

/// A job in a row.
pub(super) struct JobRow {
    pub(super) id: String,
    pub(super) service: String,
    pub(super) kind: String,
    pub(super) subject: Option<String>,
    pub(super) state: String,
    pub(super) tone: Tone,
    pub(super) attempts: u64,
    /// When it failed, or is due.
    pub(super) at: String,
    pub(super) is_due_later: bool,
    pub(super) error: String,
    pub(super) path: String,
    pub(super) flow: Option<String>,
}

impl JobRow {
    pub(super) fn of(job: &Job) -> Self {
        let Job { service, id, kind, state, attempts, subject, correlation_id, .. } = job;
        let error = job.last_error.as_deref().and_then(|it| it.lines().next());
        Self {
            id: id.to_string(),
            service: service.clone(),
            kind: kind.clone(),
            subject: subject.clone(),
            state: state.clone(),
            tone: match &**state {
                "failed" => Tone::Bad,
                "running" => Tone::Good,
                _ => Tone::Plain,
            },
            attempts: *attempts,
            at: job.failed_at.clone().unwrap_or_else(|| job.run_at.clone()),
            is_due_later: job.failed_at.is_none(),
            error: error.unwrap_or_default().to_owned(),
            path: format!("/jobs/{}/{id}", escaped(service)),
            flow: correlation_id
                .as_ref()
                .or(subject.as_ref())
                .map(|it| format!("/flow?q={}", escaped(it))),
        }
    }

    /// Returns `true` if it can be retried or discarded.
    pub(super) fn can_change(&self) -> bool {
        self.state != "running"
    }
}

pub(super) async fn show(
    State(console): State<Console>,
    session: Session,
    fields: Fields,
) -> Result<Html<String>, PageError> {
    let page = console.page("Jobs", Area::Jobs, &session);
    let query = JobQuery::of(&fields)?;
    let services = console.services(&session);
    let sources = services.named(query.service.as_deref())?.into_iter().map(|client| {
        let filter = query.filter.clone();
        Source::new(client, "jobs", move |client: &Client| client.jobs(&filter))
    });
    let cursor = fields.one("cursor");
    let found = pages::page(sources.collect(), cursor, PAGE, |_| true).await?;
    let template = JobsPage {
        page,
        here: query.at(cursor),
        services: services.all().into_iter().map(|it| it.service).collect(),
        jobs: found.items.iter().map(|it| JobRow::of(&it.item)).collect(),
        silent: found.silent,
        first: cursor.map(|_| query.at(None)),
        next: found.next.map(|cursor| query.at(Some(&cursor))),
        query,
    };
    Ok(Html(template.render()?))
}

impl JobsPage {
    /// Returns the address of an act on all jobs that match the filter.
    fn all(&self, act: &str) -> String {
        address(&format!("/jobs/all/{act}"), &self.query.to_query())
    }

    fn is_filtered(&self) -> bool {
        !self.query.to_query().is_empty()
    }
}
