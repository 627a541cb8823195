use askama::Template;
use axum::extract::State;
use axum::response::Html;

use super::{HERE, JobQuery};
use crate::client::{Client, Job, Merged, Order};
use crate::console::address::{address, escaped};
use crate::console::silent::Silent;
use crate::console::tone::Tone;
use crate::console::{Area, Console, Fields, Page, PageError, Session, filters};

/// How many jobs a page shows.
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
    next: Option<String>,
    /// There are more jobs than can be paged through, since several services have them.
    is_cut: bool,
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
    let clients = services.named(query.service.as_deref())?;
    let cursor = fields.one("cursor").filter(|_| clients.len() == 1);
    let listing = |client: &Client| {
        let listing = client.jobs(&query.filter);
        if let Some(cursor) = cursor { listing.at(cursor) } else { listing }
    };
    let mut list = Merged::new(clients.iter().map(listing).collect(), PAGE, Order::Newest);
    let mut jobs = Vec::new();
    while jobs.len() < PAGE
        && let Some(job) = list.next().await?
    {
        jobs.push(JobRow::of(&job));
    }
    let all = query.to_query();
    let more = list.cursor().filter(|_| clients.len() == 1).map(|cursor| {
        let cursor = [("cursor", cursor.to_owned())];
        address(HERE, &[&all[..], &cursor].concat())
    });
    let here =
        [&all[..], &cursor.map(|it| ("cursor", it.to_owned())).into_iter().collect::<Vec<_>>()];
    let template = JobsPage {
        page,
        here: address(HERE, &here.concat()),
        services: services.all().into_iter().map(|it| it.service).collect(),
        jobs,
        is_cut: more.is_none() && !list.is_at_end(),
        silent: Silent::of(&list.unavailable),
        next: more,
        query,
    };
    Ok(Html(template.render()?))
}

impl JobsPage {
    /// Returns the address of an act on all jobs that meet the filter.
    fn all(&self, act: &str) -> String {
        address(&format!("/jobs/all/{act}"), &self.query.to_query())
    }

    fn is_filtered(&self) -> bool {
        !self.query.to_query().is_empty()
    }
}
