use crate::client::{Metrics, Outbox};
use crate::console::tone::Tone;
use crate::lag::words::grouped;
use crate::moment::rough;
use crate::serve::ServiceState;

/// A service with its state.
pub(super) struct ServiceRow {
    pub(super) service: String,
    pub(super) state: String,
    pub(super) tone: Tone,
    /// Why it is not ready, or its problems.
    pub(super) why: String,
    pub(super) kafka: (String, Tone),
    pub(super) outbox: (String, Tone),
    pub(super) subscriptions: String,
    pub(super) letters: (String, Tone),
    pub(super) jobs: (String, Tone),
}

const UNKNOWN: &str = "?";

impl ServiceRow {
    pub(super) fn of(state: &ServiceState) -> Self {
        let (status, tone) = match (&state.readiness, &state.down) {
            (None, _) => ("no answer".to_owned(), Tone::Bad),
            (Some(it), Some(_)) => (it.status.clone(), Tone::Bad),
            (Some(it), None) if it.is_ready() => (it.status.clone(), Tone::Good),
            (Some(it), None) => (it.status.clone(), Tone::Warn),
        };
        let troubles = state.readiness.as_ref().map(|it| it.troubles().join("; "));
        Self {
            service: state.service.clone(),
            state: status,
            tone,
            why: state.down.clone().or(troubles).unwrap_or_default(),
            kafka: kafka(state),
            outbox: outbox(state),
            subscriptions: subscriptions(state),
            letters: counted(open_letters(state)),
            jobs: counted(state.failed_jobs.as_ref().map(|it| it.values().sum())),
        }
    }
}

fn kafka(state: &ServiceState) -> (String, Tone) {
    match state.readiness.as_ref().map(|it| &*it.kafka) {
        None => (UNKNOWN.to_owned(), Tone::Plain),
        Some("away") => ("unavailable".to_owned(), Tone::Bad),
        Some("unknown") => ("not probed".to_owned(), Tone::Plain),
        Some(kafka) => (kafka.to_owned(), Tone::Plain),
    }
}

fn outbox(state: &ServiceState) -> (String, Tone) {
    match state.metrics.as_ref().and_then(Metrics::outbox) {
        None if state.metrics.is_some() => ("–".to_owned(), Tone::Plain),
        None => (UNKNOWN.to_owned(), Tone::Plain),
        Some(Outbox { depth: 0, .. }) => ("empty".to_owned(), Tone::Plain),
        Some(it) => {
            let tone = if it.is_late() { Tone::Bad } else { Tone::Plain };
            (format!("{}, {}", grouped(it.depth), rough(it.age)), tone)
        }
    }
}

fn subscriptions(state: &ServiceState) -> String {
    let Some(all) = &state.subscriptions else { return UNKNOWN.to_owned() };
    let running = all.iter().filter(|it| it.trouble().is_none()).count();
    if all.is_empty() { "–".to_owned() } else { format!("{running} / {}", all.len()) }
}

fn open_letters(state: &ServiceState) -> Option<u64> {
    let groups = state.letters.as_ref()?.values().flat_map(|it| &it.groups);
    Some(groups.filter(|it| it.status != "ignored").map(|it| it.open).sum())
}

fn counted(number: Option<u64>) -> (String, Tone) {
    match number {
        None => (UNKNOWN.to_owned(), Tone::Plain),
        Some(0) => ("0".to_owned(), Tone::Plain),
        Some(number) => (grouped(number), Tone::Bad),
    }
}
