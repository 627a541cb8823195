//! Lines above the tree.

use std::io::{self, Write};

use crate::error::complain;
use crate::flow::{Flow, Service, State};
use crate::plain::{count, plain};

use super::Context;
use super::color::Tone;
use super::units::{duration, time};
use super::wrap::wrap;

/// Width of the names, and of the screen.
const NAME: usize = 9;
const WIDTH: usize = 80;
/// Maximum number of ids or traces to show.
const SHOWN: usize = 3;

/// Writes the data of the flow as a whole.
pub(super) fn write(out: &mut impl Write, context: &Context, flow: &Flow) -> io::Result<()> {
    let mut head = Vec::new();
    for (name, texts) in [("flow", &flow.correlation_ids), ("subject", &flow.subjects)] {
        head.extend(some(texts).map(|text| (name, text, Tone::Plain)));
    }
    let started = flow.start().map(time);
    let took = flow.took().map(|took| format!(", took {}", duration(took))).unwrap_or_default();
    head.extend(started.map(|started| ("started", format!("{started}{took}"), Tone::Plain)));
    let (text, tone) = state(flow);
    head.push(("state", text, tone));
    let traces: Vec<_> = flow.traces().iter().map(|it| trace(&context.jaeger, it)).collect();
    head.extend(some(&traces).map(|link| ("trace", link, Tone::Plain)));
    head.extend(notes(flow).into_iter().map(|(note, tone)| ("note", note, tone)));
    let mut last = "";
    for (name, text, tone) in head {
        // A link is not wrapped, because it can't be followed then.
        let parts = if name == "trace" { vec![text] } else { wrap(&text, WIDTH - NAME) };
        for part in parts {
            let shown = if name == last { "" } else { name };
            writeln!(out, "{shown:<NAME$}{}", context.colors.tone(tone, &part))?;
            last = name;
        }
    }
    Ok(())
}

/// Returns the link to a trace, or only its id if `jaeger` is `off`.
fn trace(jaeger: &str, id: &str) -> String {
    if jaeger == "off" {
        return id.to_owned();
    }
    format!("{}/trace/{id}", jaeger.trim_end_matches('/'))
}

/// Returns the first texts, and the number of the others.
fn some(texts: &[String]) -> impl Iterator<Item = String> {
    let more = texts.len().saturating_sub(SHOWN);
    let more = (more > 0).then(|| format!("and {more} more"));
    texts.iter().take(SHOWN).map(|it| plain(it)).chain(more)
}

pub(crate) fn state(flow: &Flow) -> (String, Tone) {
    let findings = flow.findings();
    let failures = findings.iter().filter(|it| it.is_failure()).count() as u64;
    let waits = findings.len() as u64 - failures;
    let waiting = count(waits, "thing waits", "things wait");
    match flow.state() {
        State::Complete => ("complete".into(), Tone::Plain),
        State::Waiting => (format!("under way, {waiting}"), Tone::Waiting),
        State::Unknown => ("unknown".into(), Tone::Waiting),
        State::Failed => {
            let waiting = if waits == 0 { String::new() } else { format!(", {waiting}") };
            let failed = count(failures, "problem", "problems");
            (format!("{failed}{waiting}"), Tone::Failed)
        }
    }
}

/// Returns notes on missing data and on doubtful times.
pub(crate) fn notes(flow: &Flow) -> Vec<(String, Tone)> {
    let mut notes = Vec::new();
    if let Some(behind) = flow.our_clock_is_behind {
        let text = format!("this machine's clock is {} all services'", apart(-behind));
        notes.push((text, Tone::Plain));
    }
    for service in &flow.services {
        notes.extend(of_service(service));
    }
    notes
}

fn of_service(service: &Service) -> Vec<(String, Tone)> {
    let name = plain(&service.name);
    let mut notes = Vec::new();
    if let Some(why) = &service.unreachable {
        let text = format!("{name} can't be reached, its data is missing: {}", plain(why));
        notes.push((text, Tone::Failed));
    }
    for why in &service.unavailable {
        notes.push((format!("{name} could not read its {}", plain(why)), Tone::Failed));
    }
    if service.clock_is_ahead != 0 {
        let text = format!(
            "the clock of {name} is {} ours; its times are corrected",
            apart(service.clock_is_ahead)
        );
        notes.push((text, Tone::Plain));
    }
    if !service.is_recording {
        notes.push((format!("{name} records no steps (FLOW_STEPS=off)"), Tone::Plain));
    }
    if service.is_truncated {
        notes.push((format!("{name} has more steps than shown"), Tone::Plain));
    }
    if service.lost > 0 {
        let lost = count(service.lost, "step", "steps");
        let text = format!("{name} has lost {lost} since its start; some may be missing here");
        notes.push((text, Tone::Plain));
    }
    notes
}

fn apart(ahead: i64) -> String {
    let by = duration(ahead.saturating_abs());
    if ahead < 0 { format!("{by} behind") } else { format!("{by} ahead of") }
}

/// Prints to standard error that the id is unknown, and what to do.
pub(super) fn print_unknown(flow: &Flow) {
    complain(&format!("orderflow: unknown id {}", plain(&flow.id)));
    for service in &flow.services {
        for (note, _) in of_service(service) {
            complain(&format!("  {note}"));
        }
    }
    let is_whole = flow.services.iter().all(|it| it.unreachable.is_none());
    let advice = if is_whole {
        "check the id; steps are kept a day, dead letters and jobs longer"
    } else {
        "start the unreachable services, or check ORDERFLOW_SERVICES; then check the id"
    };
    complain(&format!("\nNext: {advice}"));
}
