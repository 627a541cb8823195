//! What the page of a flow shows.

use askama::Template;

use super::PageError;
use super::address::{Address, of_id};
use super::advice::{Advice, advice};
use super::details::{Details, class};
use super::picture::Picture;
use crate::console::Console;
use crate::flow::{At, Finding, Flow, State};
use crate::plain::{count, plain};
use crate::show_flow::{self, Tone, duration, notes, rows, state};

/// How often the flow is read again, in seconds: while something goes on by itself, and while somebody must act.
const OFTEN: u8 = 1;
const SELDOM: u8 = 5;
/// Steps are written with a delay: so long after the last one more can come, in microseconds.
const SETTLES: i64 = 10_000_000;
/// From how many steps on the flow is read again seldom.
const MANY: usize = 300;
/// How many ids are shown.
const IDS: usize = 6;

/// A flow as the page shows it.
pub(super) struct Shown {
    /// Its address, and that without an open step.
    pub(super) here: String,
    pub(super) closed: String,
    /// The address of a step, up to its key.
    pub(super) link: String,
    /// The address with each step shown, or with what repeats counted.
    pub(super) turned: String,
    pub(super) shows_all: bool,
    /// What to do if nothing is known of the id.
    pub(super) unknown: Option<&'static str>,
    pub(super) state: String,
    pub(super) state_class: &'static str,
    /// What it is known by, each kind with its name.
    pub(super) ids: Vec<(&'static str, Vec<Id>)>,
    pub(super) started: Option<(String, String)>,
    pub(super) took: String,
    pub(super) notes: Vec<(String, &'static str)>,
    pub(super) advice: Vec<Advice>,
    pub(super) more_advice: usize,
    /// The picture, as SVG.
    pub(super) picture: Option<String>,
    pub(super) steps: String,
    pub(super) rows: Vec<Row>,
    /// Whether steps are counted in the text.
    pub(super) is_collapsed: bool,
    pub(super) chosen: Option<String>,
    pub(super) details: Option<Details>,
    /// In how many seconds it is read again, if more can come.
    pub(super) poll: Option<u8>,
}

/// An id, and where it leads.
pub(super) struct Id {
    pub(super) text: String,
    pub(super) link: Option<String>,
}

/// A row of the text.
pub(super) struct Row {
    pub(super) before: String,
    pub(super) text: String,
    pub(super) after: String,
    pub(super) class: &'static str,
    pub(super) step: Option<String>,
}

impl Shown {
    pub(super) fn new(
        flow: &Flow,
        address: &Address,
        console: &Console,
    ) -> Result<Self, PageError> {
        // If all services agree on another time than this machine, it is the time of the flow.
        let now = At::now().plus(flow.our_clock_is_behind.unwrap_or_default());
        let (text, tone) = state(flow);
        let (advice, more_advice) = advice(flow);
        let nodes = flow.nodes().len();
        let rows: Vec<_> = rows(flow, !address.shows_all).into_iter().map(Row::new).collect();
        let told = rows.iter().filter(|it| it.step.is_some()).count();
        Ok(Self {
            here: address.here(),
            closed: address.flow(),
            link: address.to_step(),
            turned: address.turned(),
            shows_all: address.shows_all,
            unknown: flow.is_empty().then(|| unknown(flow)),
            state: text,
            state_class: if tone == Tone::Plain { "good" } else { class(tone) },
            ids: vec![
                ("flow", ids(&flow.correlation_ids)),
                ("subject", ids(&flow.subjects)),
                ("trace", traces(flow, console)),
            ],
            started: flow.start().map(|it| (it.to_rfc3339(), show_flow::time(it))),
            took: flow.took().map(duration).unwrap_or_default(),
            notes: notes(flow).into_iter().map(|(note, tone)| (note, note_class(tone))).collect(),
            advice,
            more_advice,
            picture: picture(flow, now, address)?,
            steps: count(nodes as u64, "step", "steps"),
            is_collapsed: told < nodes,
            rows,
            chosen: address.step.clone(),
            details: address.step.as_ref().and_then(|key| Details::of(flow, key, console)),
            // A page of megabytes is not sent every second.
            poll: poll(flow, now).map(|it| if told > MANY { SELDOM } else { it }),
        })
    }

    pub(super) fn is_chosen(&self, row: &Row) -> bool {
        self.chosen.is_some() && row.step == self.chosen
    }
}

fn unknown(flow: &Flow) -> &'static str {
    if flow.services.iter().all(|it| it.unreachable.is_none()) {
        "Check the id. Steps are kept for a day, dead letters and jobs longer. An order that is placed now appears here \
         by itself."
    } else {
        "Start what can't be reached, or check ORDERFLOW_SERVICES; then check the id."
    }
}

fn picture(flow: &Flow, now: At, address: &Address) -> Result<Option<String>, PageError> {
    let link = address.to_step();
    let picture = Picture::new(flow, now, !address.shows_all, &link, address.step.as_deref());
    if picture.is_empty() { Ok(None) } else { Ok(Some(picture.render()?)) }
}

fn ids(ids: &[String]) -> Vec<Id> {
    let id = |it: &String| Id { text: plain(it), link: Some(of_id(it)) };
    let more = ids.len().saturating_sub(IDS);
    let more = (more > 0).then(|| Id { text: format!("and {more} more"), link: None });
    ids.iter().take(IDS).map(id).chain(more).collect()
}

fn traces(flow: &Flow, console: &Console) -> Vec<Id> {
    let traces = flow.traces().into_iter().take(IDS);
    traces.map(|it| Id { text: it.to_owned(), link: console.trace(it) }).collect()
}

fn note_class(tone: Tone) -> &'static str {
    if tone == Tone::Failed { "bad" } else { "warn" }
}

/// Returns in how many seconds the flow is read again. What only a person can go on with is read seldom.
fn poll(flow: &Flow, now: At) -> Option<u8> {
    let findings = flow.findings();
    let ended = flow.start().zip(flow.took()).map(|(start, took)| start.plus(took));
    let is_new = ended.is_none_or(|it| now.since(it) < SETTLES);
    let goes_on = findings.iter().any(|it| !it.is_failure());
    match flow.state() {
        _ if goes_on || is_new => Some(OFTEN),
        State::Unknown => Some(OFTEN),
        _ if findings.iter().all(Finding::is_final) => None,
        _ => Some(SELDOM),
    }
}

impl Row {
    fn new(row: show_flow::Row) -> Self {
        let show_flow::Row { time, service, guide, text, took, tone, step } = row;
        let class = match tone {
            Tone::Plain => "",
            Tone::Waiting => "warn",
            Tone::Failed => "bad",
        };
        Self { before: format!("{time}{service}{guide}"), text, after: took, class, step }
    }
}

#[cfg(test)]
mod tests {
    use super::super::stories::{failed, replayed, waiting, well};
    use super::*;
    use crate::flow::testing::at;

    #[test]
    fn a_flow_is_read_again_while_more_can_come() {
        let later = at(100_000);
        assert_eq!(poll(&waiting(), later), Some(OFTEN));
        assert_eq!(poll(&failed(), later), Some(SELDOM));
        assert_eq!(poll(&well(), later), None);
        assert_eq!(poll(&well(), at(500)), Some(OFTEN), "steps are written with a delay");
        assert_eq!(poll(&replayed(), at(200_000)), None);
    }
}
