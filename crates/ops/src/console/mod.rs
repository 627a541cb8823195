//! The console: pages for operators, rendered on the server and refreshed by signal.

pub(crate) mod access;
mod address;
mod api;
mod assets;
mod failures;
mod fields;
#[allow(unreachable_pub, clippy::inline_always, clippy::unused_self, clippy::unnecessary_wraps)]
// Code that `filter_fn` generates.
mod filters;
mod flow;
mod history;
mod jobs;
mod lag;
mod layout;
mod live;
mod notice;
mod overview;
mod page_error;
mod pages;
mod payload;
mod refusal;
mod replays;
mod silent;
mod spark;
mod tone;

pub(crate) use access::{Access, Session};
pub(crate) use live::{Live, Topic};

use std::sync::Arc;

use axum::extract::FromRef;
use axum::response::Response;
use axum::routing::get;
use axum::{Router, middleware};
use tokio_util::sync::CancellationToken;

use self::fields::Fields;
use self::layout::{Area, Page};
use self::notice::Notice;
use self::page_error::PageError;
use crate::serve::Watched;
use crate::services::Services;

/// State that every page needs.
#[derive(Clone)]
pub(crate) struct Console {
    services: Arc<Services>,
    pub(crate) kafka: kafka::Settings,
    pub(crate) polled: Watched,
    pub(crate) access: Arc<Access>,
    pub(crate) live: Live,
    pub(crate) shutdown: CancellationToken,
    /// Address of the trace viewer.
    traces: Arc<str>,
}

impl Console {
    pub(crate) fn new(
        services: Services,
        kafka: kafka::Settings,
        polled: Watched,
        access: Access,
        live: Live,
        shutdown: CancellationToken,
    ) -> Self {
        let (services, access) = (Arc::new(services), Arc::new(access));
        Self { services, kafka, polled, access, live, shutdown, traces: Arc::default() }
    }

    /// Links traces to the viewer at that address.
    pub(crate) fn with_traces(mut self, address: &str) -> Self {
        self.traces = address.trim_end_matches('/').into();
        self
    }

    /// Returns the address of a trace. Returns `None` if the id is invalid, or the viewer's address
    /// is not HTTP.
    pub(crate) fn trace(&self, id: &str) -> Option<String> {
        let is_trace = id.len() == 32 && id.bytes().all(|it| it.is_ascii_hexdigit());
        let is_web = self.traces.starts_with("http://") || self.traces.starts_with("https://");
        (is_trace && is_web).then(|| format!("{}/trace/{id}", self.traces))
    }

    /// Returns the services with the operator's token of a session, so that acts are recorded with
    /// the operator's name.
    pub(crate) fn services(&self, session: &Session) -> Services {
        self.services.acting_with(session.token().clone())
    }

    /// Returns the data for the layout of a page. Call it before the page reads anything, so that
    /// later signals refresh the page.
    pub(crate) fn page(&self, title: &str, area: Area, session: &Session) -> Page {
        Page::new(title, area, session, self.live.seen())
    }
}

impl FromRef<Console> for Watched {
    fn from_ref(console: &Console) -> Self {
        console.polled.clone()
    }
}

/// Returns the routes of all pages, behind sign-in, the check of the host and the protection
/// against forged requests.
pub(crate) fn routes(console: &Console) -> Router<Console> {
    Router::new()
        .merge(overview::routes())
        .merge(failures::routes())
        .merge(replays::routes())
        .merge(flow::routes())
        .merge(lag::routes())
        .merge(jobs::routes())
        .merge(history::routes())
        .merge(api::routes())
        .route("/live", get(live::stream))
        .fallback(not_found)
        .layer(middleware::from_fn_with_state(console.clone(), access::require_session))
        .merge(access::routes())
        .merge(assets::routes())
        .layer(middleware::from_fn_with_state(console.clone(), access::guard))
}

async fn not_found(
    axum::extract::State(console): axum::extract::State<Console>,
    session: Session,
) -> Response {
    PageError::not_found("There is no such page.").response(console.page(
        "Not found",
        Area::None,
        &session,
    ))
}
