//! Is everything all right? From what is polled, so the page costs the services nothing.

mod alert;
mod change;
mod service_row;
mod stat;

use std::time::Duration;

use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::response::Html;
use axum::routing::get;
use time::OffsetDateTime;

use self::alert::AlertRow;
use self::change::Change;
use self::service_row::ServiceRow;
use self::stat::Stat;
use super::lag::LagRow;
use super::{Area, Console, Page, PageError, Session, filters};
use crate::serve::{ServiceState, Watched};

/// How far back changes are shown.
const RECENT: Duration = Duration::from_hours(1);

pub(super) fn routes() -> Router<Console> {
    Router::new().route("/", get(show))
}

#[derive(Template)]
#[template(path = "overview/index.html")]
struct Overview {
    page: Page,
    is_polled: bool,
    verdict: Verdict,
    stats: Vec<Stat>,
    alerts: Vec<AlertRow>,
    services: Vec<ServiceRow>,
    lag: Vec<LagRow>,
    /// Why there is no lag.
    lag_unknown: Option<String>,
    changes: Vec<Change>,
}

/// What is not well, in a few words.
struct Verdict {
    troubles: Vec<String>,
}

async fn show(State(console): State<Console>, session: Session) -> Result<Html<String>, PageError> {
    let page = console.page("Overview", Area::Overview, &session);
    Ok(Html(Overview::of(page, &console.polled).render()?))
}

impl Overview {
    fn of(page: Page, polled: &Watched) -> Self {
        let services = polled.services.borrow();
        let states = services.as_ref().and_then(|it| it.fresh());
        let is_polled = states.is_some();
        let states = states.map_or(&[][..], Vec::as_slice);
        let measured = polled.lag.borrow();
        let measured = measured.as_ref().map(|it| match it.fresh() {
            Some(Ok(lag)) => Ok(lag),
            Some(Err(why)) => Err(why.clone()),
            None => Err("the last measurement takes too long".to_owned()),
        });
        let trends = polled.trends.borrow();
        let groups = measured.iter().flatten().flat_map(|it| &it.groups);
        let ours: Vec<_> = groups.filter(|it| it.service.is_some()).collect();
        let stats = stat::all(states, measured.as_ref().is_some_and(Result::is_ok), &ours);
        let alerts: Vec<_> = polled.alerts.borrow().iter().map(AlertRow::of).collect();
        let verdict = Verdict::of(&stats, alerts.len());
        Self {
            page,
            is_polled,
            verdict,
            stats,
            alerts,
            services: states.iter().map(ServiceRow::of).collect(),
            lag: ours.iter().map(|it| LagRow::of(it, &trends)).collect(),
            lag_unknown: measured.and_then(Result::err),
            changes: changes(states),
        }
    }
}

impl Verdict {
    fn of(stats: &[Stat], alerts: usize) -> Self {
        let mut troubles: Vec<_> = stats.iter().filter_map(|it| it.trouble.clone()).collect();
        if troubles.is_empty() && alerts > 0 {
            troubles.push("an alert fires".to_owned());
        }
        Self { troubles }
    }
}

/// Returns what has changed, the newest first.
fn changes(states: &[ServiceState]) -> Vec<Change> {
    const MOST: usize = 20;
    let since = OffsetDateTime::now_utc() - RECENT;
    let mut changes: Vec<_> = states.iter().flat_map(Change::of).collect();
    changes.retain(|it| it.moment.is_some_and(|at| at >= since));
    changes.sort_by_key(|it| std::cmp::Reverse(it.moment));
    changes.truncate(MOST);
    changes
}
