//! Data of a flow's page.

use askama::Template;

use super::PageError;
use super::address::{Address, of_id};
use super::advice::{Advice, advice};
use super::details::{Details, class};
use super::picture::Picture;
use crate::console::Console;
use crate::flow::{Finding, Flow, State, Timestamp};
use crate::plain::{count, plain};
use crate::show_flow::{self, Tone, duration, notes, rows, state};

/// Interval of the refresh in seconds: while the flow continues by itself, and while it needs an
/// operator.
const OFTEN: u8 = 1;
const SELDOM: u8 = 5;
/// Time after the last step in which more may come, in microseconds, because steps are written with
/// a delay.
const SETTLES: i64 = 10_000_000;
/// Number of steps from which the flow is refreshed seldom.
const MANY: usize = 300;
/// Maximum number of ids to show.
const IDS: usize = 6;

/// The data of the page.
pub(super) struct Shown {
    /// Its address, and that without an open step.
    pub(super) here: String,
    pub(super) closed: String,
    /// The address of a step without its key.
    pub(super) link: String,
    /// The address with repeated steps shown one by one or counted: the other of the two.
    pub(super) turned: String,
    pub(super) shows_all: bool,
    /// What to do if the id is unknown.
    pub(super) unknown: Option<&'static str>,
    pub(super) state: String,
    pub(super) state_class: &'static str,
    /// Ids of the flow, by kind.
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
    /// Whether repeated steps are counted in the text.
    pub(super) is_collapsed: bool,
    pub(super) chosen: Option<String>,
    pub(super) details: Option<Details>,
    /// Interval of the refresh in seconds, if more steps may come.
    pub(super) poll: Option<u8>,
}

/// An id, and its link.
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
        // If all services agree on another time than this machine, the flow uses their time.
        let now = Timestamp::now().plus(flow.our_clock_is_behind.unwrap_or_default());
        let (text, tone) = state(flow);
        let (advice, more_advice) = advice(flow);
        let nodes = flow.nodes().len();
        let rows: Vec<_> = rows(flow, !address.shows_all).into_iter().map(Row::new).collect();
        let steps = rows.iter().filter(|it| it.step.is_some()).count();
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
            is_collapsed: steps < nodes,
            rows,
            chosen: address.step.clone(),
            details: address.step.as_ref().and_then(|key| Details::of(flow, key, console)),
            // A large page is not sent every second.
            poll: poll(flow, now).map(|it| if steps > MANY { SELDOM } else { it }),
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
        "Start the unreachable services, or check ORDERFLOW_SERVICES; then check the id."
    }
}

fn picture(flow: &Flow, now: Timestamp, address: &Address) -> Result<Option<String>, PageError> {
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

/// Returns the interval of the refresh in seconds. It is long if the flow needs an operator to
/// continue.
fn poll(flow: &Flow, now: Timestamp) -> Option<u8> {
    let findings = flow.findings();
    let ended = flow.start().zip(flow.took()).map(|(start, took)| start.plus(took));
    let is_new = ended.is_none_or(|it| now.since(it) < SETTLES);
    let is_running = findings.iter().any(|it| !it.is_failure());
    match flow.state() {
        _ if is_running || is_new => Some(OFTEN),
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
