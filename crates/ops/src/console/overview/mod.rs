//! The overview. It shows polled data, so the page sends no requests to the services.

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
use self::change::RecentChange;
use self::service_row::ServiceRow;
use self::stat::Stat;
use super::lag::LagRow;
use super::{Area, Console, Page, PageError, Session, filters};
use crate::serve::{ServiceState, Watched};

/// Time span of the changes to show.
const RECENT: Duration = Duration::from_hours(1);

pub(super) fn routes() -> Router<Console> {
    Router::new().route("/", get(show))
}

#[derive(Template)]
#[template(path = "overview/index.html")]
struct Overview {
    page: Page,
    is_polled: bool,
    verdict: Troubles,
    stats: Vec<Stat>,
    alerts: Vec<AlertRow>,
    services: Vec<ServiceRow>,
    lag: Vec<LagRow>,
    /// Why the lag is unknown.
    lag_unknown: Option<String>,
    changes: Vec<RecentChange>,
}

/// The problems, in a few words.
struct Troubles {
    troubles: Vec<String>,
}

async fn show(State(console): State<Console>, session: Session) -> Result<Html<String>, PageError> {
    let page = console.page("Overview", Area::Overview, &session);
    Ok(Html(Overview::of(page, &console.polled).render()?))
}

impl Overview {
    fn of(page: Page, polled: &Watched) -> Self {
        let services = polled.services.borrow();
        let polled_states = services.as_ref().and_then(|it| it.fresh());
        let is_polled = polled_states.is_some();
        let states = polled_states.map_or(&[][..], Vec::as_slice);
        let measured = polled.lag.borrow();
        let measured = measured.as_ref().map(|it| match it.fresh() {
            Some(Ok(lag)) => Ok(lag),
            Some(Err(why)) => Err(why.clone()),
            None => Err("the last measurement takes too long".to_owned()),
        });
        let trends = polled.trends.borrow();
        let groups = measured.iter().flatten().flat_map(|it| &it.groups);
        let ours: Vec<_> = groups.filter(|it| it.service.is_some()).collect();
        let figures = stat::all(states, measured.as_ref().is_some_and(Result::is_ok), &ours);
        let alerts: Vec<_> = polled.alerts.borrow().iter().map(AlertRow::of).collect();
        let verdict = Troubles::of(&figures, alerts.len());
        Self {
            page,
            is_polled,
            verdict,
            stats: figures,
            alerts,
            services: states.iter().map(ServiceRow::of).collect(),
            lag: ours.iter().map(|it| LagRow::of(it, &trends)).collect(),
            lag_unknown: measured.and_then(Result::err),
            changes: changes(states),
        }
    }
}

impl Troubles {
    fn of(stats: &[Stat], alerts: usize) -> Self {
        let mut troubles: Vec<_> = stats.iter().filter_map(|it| it.trouble.clone()).collect();
        if troubles.is_empty() && alerts > 0 {
            troubles.push("an alert fires".to_owned());
        }
        Self { troubles }
    }
}

/// Returns the changes, newest first.
fn changes(states: &[ServiceState]) -> Vec<RecentChange> {
    const MOST: usize = 20;
    let since = OffsetDateTime::now_utc() - RECENT;
    let mut changes: Vec<_> = states.iter().flat_map(RecentChange::of).collect();
    changes.retain(|it| it.moment.is_some_and(|at| at >= since));
    changes.sort_by_key(|it| std::cmp::Reverse(it.moment));
    changes.truncate(MOST);
    changes
}

#[cfg(test)]
mod tests {
    use std::time::{Instant, SystemTime, UNIX_EPOCH};

    use serde_json::json;

    use super::*;
    use crate::alerts::{Observed, Tracker, conditions};
    use crate::client::Metrics;
    use crate::lag::Lag;
    use crate::lag::tests::behind;
    use crate::serve::testing::state;
    use crate::serve::{Arrivals, Letters, Trends};

    fn shown(polled: &Watched) -> String {
        Overview::of(Page::bare("Overview"), polled).render().unwrap()
    }

    fn ready(service: &str) -> ServiceState {
        let readiness = json!({ "status": "ready", "database": "up", "kafka": "up" });
        let mut state = state(service);
        state.readiness = serde_json::from_value(readiness).unwrap();
        state.subscriptions = Some(Vec::new());
        state.letters = Some([].into());
        state.failed_jobs = Some([].into());
        state.acts = Some(Vec::new());
        state.metrics = Some(Metrics::read("outbox_age_seconds 0\noutbox_depth 0\n"));
        state
    }

    #[test]
    fn all_is_well_if_every_service_says_so() {
        let lag = Lag { at: UNIX_EPOCH, groups: vec![behind(3, 1)] };
        let states = vec![ready("order"), ready("billing")];
        let html = shown(&Watched::fixed(states, Ok(lag), vec![], Trends::default()));
        assert!(html.contains("All is well") && html.contains("<b>2 / 2</b>"), "{html}");
        assert!(html.contains("at most: billing, 1 s"), "{html}");
    }

    #[test]
    fn an_alert_says_what_to_do_and_where() {
        let now = Instant::now();
        let lag = Lag { at: UNIX_EPOCH, groups: vec![behind(12_000, 400)] };
        let observed = Observed { services: &[], lag: Some(Ok(&lag)) };
        let (mut tracker, mut arrivals) = (Tracker::default(), Arrivals::default());
        for at in [now, now + Duration::from_secs(31)] {
            tracker.observe(conditions(&observed, &mut arrivals, at), |_, _| false, at);
        }
        let mut trends = Trends::default();
        for (ago, messages) in [(600, 10), (300, 6_000), (1, 12_000)] {
            let at = now.checked_sub(Duration::from_secs(ago)).unwrap();
            trends.add([("billing".to_owned(), messages)], at);
        }
        let polled = Watched::fixed(vec![ready("billing")], Ok(lag), tracker.firing(), trends);
        let html = shown(&polled);
        for part in [
            "The lag of billing: too far",
            "LagHigh",
            "billing is 12000 messages behind",
            "is it catching up?",
            "<a href=\"/lag\">Lag</a>",
            "at most 12,000 messages, now 12,000",
            "<polyline",
        ] {
            assert!(html.contains(part), "{part}: {html}");
        }
    }

    #[test]
    fn an_alert_about_a_group_names_it_in_what_to_do() {
        let mut billing = ready("billing");
        let letters = Letters { last: Some(SystemTime::now()), ..Letters::default() };
        billing.letters = Some([("billing".to_owned(), letters)].into());
        let now = Instant::now();
        let (mut tracker, mut arrivals) = (Tracker::default(), Arrivals::default());
        for at in [now, now + Duration::from_secs(31)] {
            let services = [billing.clone()];
            let observed = Observed { services: &services, lag: None };
            tracker.observe(conditions(&observed, &mut arrivals, at), |_, _| false, at);
        }
        let lag = Lag { at: UNIX_EPOCH, groups: vec![] };
        let polled = Watched::fixed(vec![billing], Ok(lag), tracker.firing(), Trends::default());
        let html = shown(&polled);
        assert!(html.contains("orderflow dlq groups --group billing: fix the cause"), "{html}");
    }

    #[test]
    fn what_a_ready_service_does_not_answer_is_not_well() {
        let mut billing = ready("billing");
        billing.letters = None;
        let mut down = state("order");
        down.down = Some("it does not answer".to_owned());
        let shown = |states: Vec<ServiceState>| {
            let lag = Lag { at: UNIX_EPOCH, groups: vec![] };
            shown(&Watched::fixed(states, Ok(lag), vec![], Trends::default()))
        };
        let html = shown(vec![billing]);
        assert!(!html.contains("All is well") && html.contains("unknown in billing"), "{html}");
        assert!(html.contains("Dead letters open: unknown in billing"), "{html}");
        let html = shown(vec![down]);
        assert!(!html.contains(": unknown in"), "{html}");
    }

    #[test]
    fn a_degraded_service_is_not_well() {
        let mut order = ready("order");
        let away = json!({ "status": "degraded", "database": "up", "kafka": "away" });
        order.readiness = serde_json::from_value(away).unwrap();
        let lag = Lag { at: UNIX_EPOCH, groups: vec![] };
        let states = vec![ready("billing"), order];
        let html = shown(&Watched::fixed(states, Ok(lag), vec![], Trends::default()));
        assert!(html.contains("Order is degraded") && html.contains("<b>1 / 2</b>"), "{html}");
    }

    #[test]
    fn what_changed_in_the_last_hour_is_shown_and_what_is_older_is_not() {
        let act = |minutes: u64, why: &str| {
            let at = SystemTime::now() - Duration::from_mins(minutes);
            let at = humantime::format_rfc3339_seconds(at).to_string();
            serde_json::from_value(
                json!({ "service": "billing", "at": at, "by": "ada", "act": "jobs.retry",
                "target": "7 jobs", "why": why, "outcome": "done" }),
            )
        };
        let mut billing = ready("billing");
        billing.acts =
            Some(vec![act(5, "it is <b>back</b>").unwrap(), act(70, "long ago").unwrap()]);
        let unknown = Err("no broker".to_owned());
        let html = shown(&Watched::fixed(vec![billing], unknown, vec![], Trends::default()));
        assert!(html.contains("ada jobs.retry 7 jobs: done"), "{html}");
        assert!(html.contains("it is &#60;b&#62;back") && !html.contains("long ago"), "{html}");
        assert!(html.contains("Lag is not measured: no broker"), "{html}");
    }

    #[test]
    fn a_service_that_is_down_is_the_headline_and_what_it_has_is_unknown() {
        let mut down = state("order");
        down.down = Some("order does not answer GET /readyz (refused)".into());
        let unknown = Err("no broker".to_owned());
        let states = vec![ready("billing"), down];
        let html = shown(&Watched::fixed(states, unknown, vec![], Trends::default()));
        assert!(html.contains("Order is not ready") && html.contains("<b>1 / 2</b>"), "{html}");
        assert!(html.contains("unknown in order"), "{html}");
    }
}
