//! Puts items into lanes, and into as many rows of a lane as are needed to avoid overlaps.

use std::collections::BTreeMap;

use super::axis::Axis;
use super::items::{self, Item, Kind, Sign};
use super::text::width;
use super::{AXIS, LEAST, MARK, NAMES, ROOM, ROW};
use crate::flow::Timestamp;

/// Space between two items of a row, and between an item and its text.
const APART: f64 = 10.0;
const BESIDE: f64 = 6.0;

/// The positions of all items.
pub(super) struct Layout {
    pub(super) lanes: Vec<Lane>,
    /// Position of each item.
    pub(super) places: Vec<ItemPosition>,
}

pub(super) struct Lane {
    pub(super) of: items::Lane,
    pub(super) y: f64,
    pub(super) height: f64,
}

/// Position of an item.
pub(super) struct ItemPosition {
    /// Extent of the item with its text.
    pub(super) x0: f64,
    pub(super) x1: f64,
    /// Middle of its row.
    pub(super) y: f64,
    pub(super) bars: Vec<Bar>,
    pub(super) marks: Vec<(Sign, f64)>,
    /// Extent of the text.
    pub(super) text: (f64, f64),
    /// Whether the text is on the left of the item.
    pub(super) is_left: bool,
}

pub(super) struct Bar {
    pub(super) kind: Kind,
    pub(super) x0: f64,
    pub(super) x1: f64,
}

impl ItemPosition {
    /// Returns the extent of the drawing without the text.
    pub(super) fn drawn(&self) -> (f64, f64) {
        let marks = || self.marks.iter().map(|it| it.1);
        let first = self.bars.iter().map(|it| it.x0).chain(marks()).fold(f64::MAX, f64::min);
        let last = self.bars.iter().map(|it| it.x1).chain(marks()).fold(f64::MIN, f64::max);
        (first, last)
    }
}

/// Lays out items.
pub(super) fn lay_out(items: &[Item], axis: &Axis, now: Timestamp) -> Layout {
    let mut places: Vec<_> = items.iter().map(|it| place(it, axis, now)).collect();
    let mut by_lane: BTreeMap<&items::Lane, Vec<usize>> = BTreeMap::new();
    for (at, item) in items.iter().enumerate() {
        by_lane.entry(&item.lane).or_default().push(at);
    }
    let mut by_lane: Vec<_> = by_lane.into_iter().collect();
    by_lane.sort_by_key(|(lane, members)| {
        let first_activity = members.iter().filter_map(|at| items[*at].first_activity()).min();
        (band(lane), first_activity.is_none(), first_activity)
    });
    let (mut lanes, mut y) = (Vec::new(), AXIS);
    for (lane, mut members) in by_lane {
        // Counted items are below the others.
        members.sort_by(|one, other| {
            let counted = (items[*one].step.is_none()).cmp(&items[*other].step.is_none());
            counted.then(places[*one].x0.total_cmp(&places[*other].x0))
        });
        let mut rows: Vec<f64> = Vec::new();
        for at in members {
            let place = &mut places[at];
            let free = rows.iter().position(|end| end + APART <= place.x0);
            let row = free.unwrap_or_else(|| {
                rows.push(0.0);
                rows.len() - 1
            });
            rows[row] = place.x1;
            place.y = y + ROOM + ROW * (super::axis::to_f64(row as u64) + 0.5);
        }
        let height = ROOM * 2.0 + ROW * super::axis::to_f64(rows.len() as u64);
        lanes.push(Lane { of: lane.clone(), y, height });
        y += height;
    }
    Layout { lanes, places }
}

/// Returns the order of a kind of lanes. Lanes of one kind are sorted by their first item.
fn band(lane: &items::Lane) -> u8 {
    match lane {
        items::Lane::Service(_) => 0,
        items::Lane::Outbox => 1,
        items::Lane::Kafka => 2,
        items::Lane::Group(_) => 3,
        items::Lane::Jobs => 4,
        items::Lane::Letters => 5,
        items::Lane::Replays => 6,
        items::Lane::Other => 7,
    }
}

fn place(item: &Item, axis: &Axis, now: Timestamp) -> ItemPosition {
    let mut bars: Vec<_> = item
        .intervals
        .iter()
        .map(|it| {
            let (x0, x1) = (axis.x(it.from), axis.x(it.to.unwrap_or(now).max(it.from)));
            let least = if it.kind == Kind::Waited { 1.0 } else { LEAST };
            Bar { kind: it.kind, x0, x1: x1.max(x0 + least) }
        })
        .collect();
    // Runs are drawn over waits.
    bars.sort_by_key(|it| it.kind != Kind::Waited);
    let mut marks: Vec<_> = item.marks.iter().map(|it| (it.sign, axis.x(it.at))).collect();
    // Marks at the same position are drawn once.
    marks.dedup_by(|one, other| one.0 == other.0 && (one.1 - other.1).abs() < 1.0);
    let mut place =
        ItemPosition { x0: 0.0, x1: 0.0, y: 0.0, bars, marks, text: (0.0, 0.0), is_left: false };
    let half = |sign: Sign| if sign == Sign::Counted { 1.0 } else { MARK };
    let ends = |place: &ItemPosition, side: f64| {
        let marks = place.marks.iter().map(|(sign, x)| x + side * half(*sign)).collect::<Vec<_>>();
        let (first, last) = place.drawn();
        marks.into_iter().fold(
            if side < 0.0 { first } else { last },
            if side < 0.0 { f64::min } else { f64::max },
        )
    };
    (place.x0, place.x1) = (ends(&place, -1.0), ends(&place, 1.0));
    write(&mut place, &item.label, axis.x1);
    place
}

/// Places the text of an item: inside if it is a box, else on the right, else on the left.
fn write(place: &mut ItemPosition, text: &str, right: f64) {
    if text.is_empty() {
        return;
    }
    let long = width(text);
    let room = place.bars.iter().find(|it| matches!(it.kind, Kind::Held | Kind::Missing));
    let room =
        room.filter(|it| it.x1 - it.x0 >= long + BESIDE * 3.0).map(|it| it.x0 + BESIDE * 1.5);
    if let Some(x) = room {
        place.text = (x, x + long);
    } else if place.x1 + BESIDE + long <= right {
        place.text = (place.x1 + BESIDE, place.x1 + BESIDE + long);
        place.x1 = place.text.1;
    } else if place.x0 - BESIDE - long >= NAMES {
        place.text = (place.x0 - BESIDE, place.x0 - BESIDE - long);
        place.is_left = true;
        place.x0 = place.text.1;
    } else {
        // Over the item, which then has a row of its own.
        place.text = (right - long, right);
        place.x0 = place.x0.min(right - long);
        place.x1 = right;
    }
}
