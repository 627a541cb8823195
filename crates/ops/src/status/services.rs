//! Status of the services, of their dependencies, and the last acts.

use std::time::Duration;

use super::line::StatusLine;
use super::snapshot::{ACTS, ServiceStatus, unknown};
use crate::client::{Act, Answer, Metrics, Outbox, Subscription};
use crate::moment::{parse, rough, when};
use crate::plain::{count, plain};

/// Returns the line of the services' readiness.
pub(super) fn readiness(services: &[ServiceStatus]) -> StatusLine {
    let mut details = Vec::new();
    let mut ready = Vec::new();
    for service in services {
        match &service.readiness {
            Ok(it) if it.is_ready() => ready.push(plain(&service.name)),
            Ok(it) => {
                let troubles = it.troubles();
                let why =
                    if troubles.is_empty() { "see below".into() } else { troubles.join("; ") };
                details.push(plain(&format!("{} is {}: {why}", service.name, it.status)));
            }
            Err(why) => {
                let name = plain(&service.name);
                let why = why.replace(" GET /readyz", "");
                let why = why.strip_prefix(&format!("{name} ")).unwrap_or(&why);
                details.push(format!("{name}: {why}"));
            }
        }
    }
    if details.is_empty() {
        let verb = if ready.len() == 1 { "is" } else { "are" };
        return StatusLine::well("services", format!("{} {verb} ready", ready.join(", ")));
    }
    let text = format!("{} of {} ready", ready.len(), services.len());
    let next = if services.iter().all(ServiceStatus::is_reachable) {
        "look at its log; `orderflow status --json` shows the whole reason"
    } else {
        "check that it runs, and its admin port in ORDERFLOW_SERVICES"
    };
    StatusLine::bad("services", text).details(details).next(next)
}

/// Returns the line of the services' connections to Kafka.
pub(super) fn kafka(services: &[ServiceStatus]) -> StatusLine {
    let known =
        services.iter().filter_map(|it| Some((&*it.name, &it.readiness.as_ref().ok()?.kafka)));
    let known: Vec<_> = known.collect();
    let of = |state: &str| -> Vec<String> {
        let those = known.iter().filter(|(_, kafka)| *kafka == state);
        those.map(|(name, _)| plain(name)).collect()
    };
    let (up, away) = (of("up"), of("away"));
    let (_, unreachable) = unknown(services, |it| &it.readiness);
    if !away.is_empty() {
        let text = format!("unavailable for {}; events wait in the outbox", away.join(", "));
        let line = StatusLine::bad("Kafka", text).without(&[], &unreachable);
        return line.next("check the brokers and the services' KAFKA_BROKERS");
    }
    if up.is_empty() {
        return StatusLine::note("Kafka", "not probed yet").without(&[], &unreachable);
    }
    StatusLine::well("Kafka", "reachable").without(&[], &unreachable)
}

/// Returns the line of events that wait in the outboxes.
pub(super) fn outbox(services: &[ServiceStatus]) -> StatusLine {
    let (mut waiting, mut oldest, mut details) = (0, Duration::ZERO, Vec::new());
    let (unknown, unreachable) = unknown(services, |it| &it.metrics);
    for service in services {
        let outbox = service.metrics.as_ref().ok().and_then(Metrics::outbox);
        let Some(outbox) = outbox.filter(|it| it.depth > 0) else { continue };
        let Outbox { depth, age } = outbox;
        waiting += depth;
        oldest = oldest.max(age);
        if outbox.is_late() {
            let events = count(depth, "event", "events");
            let name = plain(&service.name);
            details.push(format!("{name}: {events}, the oldest for {}", rough(age)));
        }
    }
    let text = match waiting {
        0 => "empty".to_owned(),
        1 => format!("1 event waits, for {}", rough(oldest)),
        _ => format!("{waiting} events wait, the oldest for {}", rough(oldest)),
    };
    let line = if details.is_empty() {
        StatusLine::well("outbox", text)
    } else {
        StatusLine::bad("outbox", text)
            .details(details)
            .next("its service's log shows what Kafka refuses; no event is lost")
    };
    line.without(&unknown, &unreachable)
}

/// Returns the line of subscriptions that are not running.
pub(super) fn subscriptions(services: &[ServiceStatus]) -> StatusLine {
    let all = services.iter().filter_map(|it| it.subscriptions.as_ref().ok()).flatten();
    let all: Vec<&Answer<Subscription>> = all.collect();
    let held_up: Vec<_> = all
        .iter()
        .filter_map(|it| Some(plain(&format!("{}: {}", it.group, it.trouble()?))))
        .collect();
    let (unknown, unreachable) = unknown(services, |it| &it.subscriptions);
    let running = all.len() - held_up.len();
    if held_up.is_empty() {
        let line = StatusLine::well("subscriptions", format!("{running} running"));
        return line.without(&unknown, &unreachable);
    }
    let text = format!("{running} of {} running", all.len());
    let line = StatusLine::bad("subscriptions", text).details(held_up);
    line.without(&unknown, &unreachable).next("orderflow subscriptions")
}

/// Returns the line of the operators' last acts.
pub(super) fn acts(services: &[ServiceStatus]) -> StatusLine {
    let acts = services.iter().filter_map(|it| it.acts.as_ref().ok()).flatten();
    let mut acts: Vec<&Answer<Act>> = acts.collect();
    acts.sort_by_key(|act| std::cmp::Reverse(parse(&act.at)));
    let acts = acts.into_iter().take(ACTS);
    let details: Vec<_> = acts
        .map(|act| {
            let Act { at, by, kind, target, .. } = &**act;
            format!("{} {} {}", when(at), plain(by), plain(&format!("{kind} {target}")))
        })
        .collect();
    let (unknown, unreachable) = unknown(services, |it| &it.acts);
    let text = if details.is_empty() { "none" } else { "`orderflow acts` has all, with reasons" };
    StatusLine::note("last acts", text).details(details).without(&unknown, &unreachable)
}
