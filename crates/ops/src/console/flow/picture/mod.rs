//! The picture of a flow: lanes over time. This module computes the positions, and the template
//! draws them.

mod axis;
mod filters;
mod items;
mod label;
mod lanes;
mod text;
mod units;

#[cfg(test)]
mod tests;

use std::fmt::Write;

use askama::Template;

use self::axis::Axis;
use self::items::{Item, Kind, Lane, Sign, items};
use self::lanes::{Layout, lay_out};
use crate::flow::{Flow, Timestamp};
use crate::plain::count;
use crate::show_flow::{Tone, state};

/// Width of the lanes' names, and minimum width of the picture.
const NAMES: f64 = 132.0;
const WIDTH: f64 = 1120.0;
/// Height of the axis, of a row, and of the space above and below the rows of a lane.
const AXIS: f64 = 34.0;
const ROW: f64 = 24.0;
const ROOM: f64 = 7.0;
/// Minimum width of a time span, and half the size of a mark.
const LEAST: f64 = 3.0;
const MARK: f64 = 4.5;

/// The picture of a flow.
#[derive(Template)]
#[template(path = "flow/picture.html")]
pub(super) struct Picture {
    title: String,
    description: String,
    width: f64,
    height: f64,
    lanes: Vec<Row>,
    ticks: Vec<Tick>,
    breaks: Vec<Gap>,
    /// Position of the present, if the flow continues.
    now: Option<f64>,
    arrows: Vec<String>,
    steps: Vec<Drawn>,
    /// Whether it is wider than usual.
    is_wide: bool,
    /// The address of a step without its key.
    link: String,
    chosen: Option<String>,
}

/// A lane.
struct Row {
    name: String,
    /// The kind of the lane's name.
    kind: &'static str,
    y: f64,
    height: f64,
    is_odd: bool,
}

struct Tick {
    x: f64,
    text: String,
    class: &'static str,
}

/// A break of the axis.
struct Gap {
    x: f64,
    width: f64,
    text: String,
    edges: String,
}

/// A step with its position.
struct Drawn {
    class: String,
    step: Option<String>,
    tip: String,
    bars: Vec<Bar>,
    marks: Vec<MarkPath>,
    label: Option<PlacedLabel>,
    /// The clickable area.
    hit: (f64, f64, f64, f64),
}

struct Bar {
    class: &'static str,
    x: f64,
    y: f64,
    width: f64,
    height: f64,
}

struct MarkPath {
    class: &'static str,
    path: String,
}

struct PlacedLabel {
    text: String,
    x: f64,
    y: f64,
    anchor: &'static str,
}

impl Picture {
    /// Width of the names' drawing. A mark at the beginning is beside it.
    const NAMED: f64 = NAMES - MARK;

    /// Draws a flow at a time. `link` is the address of a step without its key.
    pub(super) fn new(
        flow: &Flow,
        now: Timestamp,
        collapses: bool,
        link: &str,
        chosen: Option<&str>,
    ) -> Self {
        let items = items(flow, collapses);
        let is_open = items.iter().any(Item::is_open);
        let axis = axis(&items, is_open.then_some(now));
        let present = is_open.then(|| axis.x(now));
        let layout = lay_out(&items, &axis, now);
        let lanes = rows(&layout);
        let height = lanes.last().map_or(AXIS, |it| it.y + it.height);
        let steps = items.iter().zip(&layout.places).map(|(item, place)| draw(item, place, chosen));
        Self {
            title: format!("Flow of {}", crate::plain::plain(&flow.id)),
            description: description(flow, &items),
            width: axis.x1 + 8.0,
            height: height + 1.0,
            ticks: ticks(&axis, present),
            breaks: breaks(&axis, height),
            now: present,
            arrows: arrows(&items, &layout),
            steps: steps.collect(),
            lanes,
            is_wide: axis.x1 > WIDTH + 0.5,
            link: link.to_owned(),
            chosen: chosen.map(ToOwned::to_owned),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Returns the width of the names relative to the picture, so that both have one scale at any
    /// width of the page.
    fn named(&self) -> String {
        format!("{:.3}%", 100.0 * Self::NAMED / self.width)
    }

    /// Returns the steps that can be opened, from left to right.
    fn targets(&self) -> Vec<(&Drawn, &str)> {
        let mut targets: Vec<_> =
            self.steps.iter().filter_map(|it| Some((it, it.step.as_deref()?))).collect();
        targets.sort_by(|(one, _), (other, _)| one.hit.0.total_cmp(&other.hit.0));
        targets
    }
}

fn axis(items: &[Item], now: Option<Timestamp>) -> Axis {
    let times = items.iter().flat_map(Item::times).collect();
    let busy: Vec<_> = items
        .iter()
        .flat_map(|it| &it.intervals)
        .filter(|it| it.kind == Kind::Ran)
        .filter_map(|it| Some((it.from, it.to?)))
        .collect();
    Axis::new(times, now, &busy, (NAMES, WIDTH))
}

fn description(flow: &Flow, items: &[Item]) -> String {
    let (state, _) = state(flow);
    let steps = count(items.len() as u64, "thing", "things");
    let took = flow.took().map(|took| format!(" in {}", crate::show_flow::duration(took)));
    format!("{steps}{}, {state}. The text below says the same.", took.unwrap_or_default())
}

fn rows(layout: &Layout) -> Vec<Row> {
    let row = |(at, lane): (usize, &lanes::Lane)| {
        let (name, kind) = named(&lane.of);
        Row { name, kind, y: lane.y, height: lane.height, is_odd: at % 2 == 1 }
    };
    layout.lanes.iter().enumerate().map(row).collect()
}

/// Returns the name of a lane and its kind.
fn named(lane: &Lane) -> (String, &'static str) {
    let (name, kind) = match lane {
        Lane::Service(name) => (name.as_str(), "requests, tasks"),
        Lane::Group(name) => (name.as_str(), "subscription"),
        Lane::Outbox => ("outbox", "before Kafka"),
        Lane::Kafka => ("Kafka", "records"),
        Lane::Jobs => ("jobs", ""),
        Lane::Letters => ("dead letters", ""),
        Lane::Replays => ("replays", "and rehearsals"),
        Lane::Other => ("other", ""),
    };
    let mut name = crate::plain::plain(name);
    if name.chars().count() > 18 {
        name = name.chars().take(17).chain(['…']).collect();
    }
    (name, kind)
}

/// Returns the ticks, except where the present is written.
fn ticks(axis: &Axis, present: Option<f64>) -> Vec<Tick> {
    let tick = |it: axis::Tick| {
        let text = units::precise(it.micros, it.unit);
        let (text, class) =
            if it.begins_piece { (text, "begins") } else { (format!("+{text}"), "tick") };
        Tick { x: it.x, text, class }
    };
    let ticks = axis.ticks().into_iter();
    ticks.filter(|it| present.is_none_or(|x| (x - it.x).abs() > 40.0)).map(tick).collect()
}

fn breaks(axis: &Axis, height: f64) -> Vec<Gap> {
    let gap = |it: axis::Break| Gap {
        x: it.x0,
        width: it.x1 - it.x0,
        text: crate::show_flow::duration(it.micros),
        edges: format!("{}{}", torn(it.x0, height), torn(it.x1, height)),
    };
    axis.breaks().into_iter().map(gap).collect()
}

/// Returns a jagged edge from the axis to the bottom.
fn torn(x: f64, height: f64) -> String {
    let mut path = format!("M{x:.1} {AXIS:.1}");
    let mut y = AXIS;
    let mut side = 2.5;
    while y < height {
        y = (y + 6.0).min(height);
        _ = write!(path, "L{:.1} {y:.1}", x + side);
        side = -side;
    }
    path
}

fn draw(item: &Item, place: &lanes::ItemPosition, chosen: Option<&str>) -> Drawn {
    let tone = match item.tone {
        Tone::Plain => "",
        Tone::Waiting => " waiting",
        Tone::Failed => " failed",
    };
    let is_chosen = item.step.is_some() && item.step.as_deref() == chosen;
    let label = (!item.label.is_empty()).then(|| PlacedLabel {
        text: item.label.clone(),
        x: place.text.0,
        y: place.y + 4.0,
        anchor: if place.is_left { "end" } else { "start" },
    });
    Drawn {
        class: format!("step{tone}{}", if is_chosen { " chosen" } else { "" }),
        step: item.step.clone(),
        tip: item.tip.clone(),
        bars: place.bars.iter().map(|it| bar(it, place.y)).collect(),
        marks: place.marks.iter().map(|(sign, x)| mark_path(*sign, *x, place.y)).collect(),
        label,
        hit: (place.x0, place.y - ROW / 2.0, place.x1 - place.x0, ROW),
    }
}

fn bar(bar: &lanes::Bar, middle: f64) -> Bar {
    let (class, height) = match bar.kind {
        Kind::Ran => ("ran", 12.0),
        Kind::Waited => ("waited", 4.0),
        Kind::Held => ("held", 14.0),
        Kind::Missing => ("missing", 16.0),
    };
    Bar { class, x: bar.x0, y: middle - height / 2.0, width: bar.x1 - bar.x0, height }
}

fn mark_path(sign: Sign, x: f64, y: f64) -> MarkPath {
    let diamond = |size: f64| {
        format!("M{:.1} {y:.1}l{size} {size} {size} -{size} -{size} -{size}z", x - size)
    };
    let (class, path) = match sign {
        Sign::Record => ("record", diamond(MARK)),
        Sign::Rehearsal => ("rehearsal", diamond(MARK)),
        Sign::Unrecorded => ("unrecorded", diamond(MARK)),
        Sign::Done => ("done", format!("M{:.1} {:.1}h{LEAST}v12h-{LEAST}z", x - LEAST, y - 6.0)),
        Sign::GaveUp => {
            ("gave-up", format!("M{:.1} {:.1}h{LEAST}v12h-{LEAST}z", x - LEAST, y - 6.0))
        }
        Sign::Failure => {
            let size = MARK - 1.0;
            let (left, top, across) = (x - size, y - size, size * 2.0);
            (
                "failure",
                format!("M{left:.1} {top:.1}l{across} {across}m0 -{across}l-{across} {across}"),
            )
        }
        Sign::Counted => ("counted", format!("M{x:.1} {:.1}v10", y - 5.0)),
    };
    MarkPath { class, path }
}

/// Returns the arrows from causes to effects. They lead down or up at the beginning of the effect.
fn arrows(items: &[Item], layout: &Layout) -> Vec<String> {
    let arrow = |(at, item): (usize, &Item)| {
        let (from, to) = (&layout.places[item.cause?], &layout.places[at]);
        let begins = to.bars.iter().map(|it| it.x0).chain(to.marks.iter().map(|it| it.1));
        let x = begins.min_by(f64::total_cmp)?;
        let (first, last) = from.drawn();
        let down = if to.y > from.y { 1.0 } else { -1.0 };
        let end = to.y - down * 7.0;
        let leaves = x.clamp(first, last);
        if (leaves - x).abs() < 0.5 {
            return Some(format!("M{x:.1} {:.1}V{end:.1}", from.y + down * 3.0));
        }
        // Between the rows, where there is no text.
        let between = from.y + down * ROW / 2.0;
        Some(format!("M{leaves:.1} {:.1}V{between:.1}H{x:.1}V{end:.1}", from.y + down * 3.0))
    };
    items.iter().enumerate().filter_map(arrow).collect()
}
