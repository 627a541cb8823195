//! The status as JSON.

use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;

use super::line::StatusLine;
use super::snapshot::{Part, ServiceStatus, Snapshot};
use super::{failures, lag};
use crate::client::{Answer, Metrics};

/// Returns the whole status: each area in words, and the data.
pub(super) fn of(snapshot: &Snapshot, lines: &[StatusLine], is_well: bool) -> Value {
    let Snapshot { at, services, .. } = snapshot;
    let areas = lines.iter().map(|line| {
        let StatusLine { area, text, details, next, .. } = line;
        let is_well = line.is_well();
        json!({ "area": area, "is_well": is_well, "text": text, "details": details, "next": next })
    });
    let lag = lag::by_group(snapshot).into_iter();
    let lag = lag.map(|(group, messages)| json!({ "group": group, "messages": messages }));
    let failed = failures::failed_by_kind(services).into_iter();
    let failed = failed
        .map(|((service, kind), jobs)| json!({ "service": service, "kind": kind, "jobs": jobs }));
    json!({
        "is_well": is_well,
        "at": at.format(&Rfc3339).unwrap_or_default(),
        "areas": areas.collect::<Vec<_>>(),
        "services": services.iter().map(service).collect::<Vec<_>>(),
        "subscriptions": all(services, |it| &it.subscriptions),
        "lag": lag.collect::<Vec<_>>(),
        "dead_letters": all(services, |it| &it.letter_groups),
        "failed_jobs": failed.collect::<Vec<_>>(),
        "replays": all(services, |it| &it.replays),
        "acts": all(services, |it| &it.acts),
    })
}

fn all<'a, T: 'a>(
    services: &'a [ServiceStatus],
    part: impl Fn(&'a ServiceStatus) -> &'a Part<Vec<Answer<T>>>,
) -> Vec<&'a Value> {
    services.iter().filter_map(|it| part(it).as_ref().ok()).flatten().map(|it| &it.json).collect()
}

fn service(service: &ServiceStatus) -> Value {
    let readiness = service.readiness.as_ref();
    let status = readiness.map_or("unreachable", |it| &*it.status);
    let outbox = service.metrics.as_ref().ok().and_then(Metrics::outbox);
    json!({
        "service": service.name,
        "status": status,
        "why": readiness.map_or_else(|why| vec![why.clone()], crate::client::Readiness::troubles),
        "kafka": readiness.ok().map(|it| &it.kafka),
        "outbox_depth": outbox.as_ref().map(|it| it.depth),
        "outbox_age_seconds": outbox.map(|it| it.age.as_secs_f64()),
    })
}
