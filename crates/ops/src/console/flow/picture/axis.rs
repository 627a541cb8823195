//! The time axis. It is to scale where steps are close together, with breaks for long gaps.

use super::text::width;
use super::units::precise;
use crate::flow::Timestamp;
use crate::show_flow::duration;

/// Space before and after the contents, and around a text.
const PAD: f64 = 9.0;
const BESIDE: f64 = 7.0;
/// Minimum width of a piece with several steps; their number adds to it.
const SHORTEST: f64 = 96.0;
/// Minimum average width of a piece's gaps, below which longer gaps are cut out.
const LEGIBLE: f64 = 18.0;
/// Factor between a gap to cut and the next shorter one.
const JUMP: i64 = 3;
/// Maximum number of pieces.
const PIECES: usize = 9;
/// Minimum distance of two ticks.
const TICK: f64 = 64.0;
/// Maximum wait that is drawn to scale if there are few, in microseconds.
const SHORT: i64 = 1_000_000;

/// An axis of time.
pub(super) struct Axis {
    pieces: Vec<Piece>,
    pub(super) x1: f64,
}

/// A time span that is drawn to scale.
struct Piece {
    from: Timestamp,
    to: Timestamp,
    x0: f64,
    x1: f64,
    /// Width of the break after it.
    after: f64,
}

/// A piece without a position.
struct Span {
    from: Timestamp,
    to: Timestamp,
    /// Its share of the remaining width.
    weight: f64,
    least: f64,
    after: f64,
}

impl Span {
    fn new(times: &[Timestamp]) -> Option<Self> {
        let (from, to) = (*times.first()?, *times.last()?);
        let weight = to_f64(times.len() as u64 - 1).sqrt();
        Some(Self { from, to, weight, least: 0.0, after: 0.0 })
    }
}

/// A time span without steps.
#[derive(Debug)]
pub(super) struct Break {
    pub(super) x0: f64,
    pub(super) x1: f64,
    pub(super) micros: i64,
}

/// A mark of the axis.
#[derive(Debug)]
pub(super) struct Tick {
    pub(super) x: f64,
    /// Time since the start of the axis, or of the piece.
    pub(super) micros: i64,
    pub(super) begins_piece: bool,
    /// The shortest distinguishable time there.
    pub(super) unit: i64,
}

impl Axis {
    /// Lays out times in a width, which grows if necessary. `now` is the present, if the flow
    /// continues. `busy` are times in which a step runs: they are cut last.
    pub(super) fn new(
        mut times: Vec<Timestamp>,
        now: Option<Timestamp>,
        busy: &[(Timestamp, Timestamp)],
        (x0, x1): (f64, f64),
    ) -> Self {
        times.extend(now);
        times.sort_unstable();
        times.dedup();
        let mut pieces: Vec<&[Timestamp]> =
            if times.is_empty() { Vec::new() } else { vec![&times[..]] };
        let mut done = Vec::new();
        while let Some(piece) = pieces.pop() {
            let cut = cut(piece, busy, x1 - x0);
            if cut.len() > 1 && done.len() + pieces.len() + cut.len() <= PIECES {
                pieces.extend(cut);
                pieces
                    .sort_by_key(|it| it.last().zip(it.first()).map(|(to, from)| to.since(*from)));
            } else {
                done.push(piece);
            }
        }
        done.sort_by_key(|it| it.first().copied());
        Self::of(&done, now.is_some(), x0, x1)
    }

    fn of(pieces: &[&[Timestamp]], ends_now: bool, x0: f64, x1: f64) -> Self {
        let mut spans: Vec<_> = pieces.iter().filter_map(|it| Span::new(it)).collect();
        let start = spans.first().map(|it| it.from);
        for at in 0..spans.len() {
            let since = start.map_or(0, |start| spans[at].from.since(start));
            let text = width(&precise(since, start_unit(since, 1))) + BESIDE;
            // The present has a short label, and nothing follows it.
            let is_last = ends_now && at + 1 == spans.len() && at > 0;
            let single = if is_last { PAD * 2.0 } else { PAD + text };
            spans[at].least =
                if spans[at].from == spans[at].to { single } else { SHORTEST.max(text) };
            if let Some(next) = spans.get(at + 1) {
                spans[at].after = width(&duration(next.from.since(spans[at].to))) + BESIDE * 2.0;
            }
        }
        let used: f64 = spans.iter().map(|it| it.least + it.after).sum();
        let room = (x1 - x0 - used).max(0.0);
        let total: f64 = spans.iter().map(|it| it.weight).sum();
        let (mut x, mut layout) = (x0, Vec::new());
        for Span { from, to, weight, least, after } in spans {
            let width = least + if total > 0.0 { room * weight / total } else { 0.0 };
            // A single moment is placed at the beginning of its piece.
            let end = if from == to { x + PAD } else { x + width - PAD };
            layout.push(Piece { from, to, x0: x + PAD, x1: end, after });
            x += width + after;
        }
        Self { pieces: layout, x1: x.max(x1) }
    }

    /// Returns the position of a time. Times before the first and after the last are drawn at the
    /// edge.
    pub(super) fn x(&self, at: Timestamp) -> f64 {
        let Some(last) = self.pieces.iter().rposition(|it| it.from <= at) else {
            return self.pieces.first().map_or(0.0, |it| it.x0);
        };
        let piece = &self.pieces[last];
        if at <= piece.to {
            return between((piece.from, piece.x0), (piece.to, piece.x1), at);
        }
        let Some(next) = self.pieces.get(last + 1) else { return piece.x1 };
        between((piece.to, piece.x1), (next.from, next.x0), at)
    }

    pub(super) fn breaks(&self) -> Vec<Break> {
        let pairs = self.pieces.iter().zip(self.pieces.iter().skip(1));
        let of_pair = |(one, next): (&Piece, &Piece)| Break {
            x0: next.x0 - PAD - one.after,
            x1: next.x0 - PAD,
            micros: next.from.since(one.to),
        };
        pairs.map(of_pair).collect()
    }

    pub(super) fn ticks(&self) -> Vec<Tick> {
        let Some(start) = self.pieces.first().map(|it| it.from) else { return Vec::new() };
        self.pieces.iter().flat_map(|piece| piece.ticks(start)).collect()
    }
}

impl Piece {
    fn ticks(&self, start: Timestamp) -> Vec<Tick> {
        let step = self.step();
        let before = self.from.since(start);
        let unit = start_unit(before, step);
        let tick = |number: i64| {
            let since = step.saturating_mul(number);
            let x = between((self.from, self.x0), (self.to, self.x1), self.from.plus(since));
            if number == 0 {
                return Tick { x, micros: before, begins_piece: true, unit };
            }
            Tick { x, micros: since, begins_piece: false, unit: step }
        };
        let steps = self.to.since(self.from) / step;
        let mut ticks: Vec<_> = (0..=steps).map(tick).collect();
        // Between the text of the piece's start and that of the break.
        let text = width(&precise(before, unit));
        let (first, last) = (self.x0 + text + TICK / 3.0, self.x1 + PAD - TICK / 3.0);
        ticks.retain(|it| it.begins_piece || (first..=last).contains(&it.x));
        ticks
    }

    /// Returns the time between two ticks: 1, 2 or 5 of a decimal unit.
    fn step(&self) -> i64 {
        let took = self.to.since(self.from).max(1);
        let most = ((self.x1 - self.x0) / TICK).max(1.0);
        let least = to_f64(took.unsigned_abs()) / most;
        let mut unit = 1_i64;
        loop {
            for factor in [1, 2, 5] {
                let step = unit.saturating_mul(factor);
                if to_f64(step.unsigned_abs()) >= least {
                    return step;
                }
            }
            unit = unit.saturating_mul(10);
        }
    }
}

/// Returns the unit of a piece's start, whose ticks are `step` apart. Ticks are relative to the
/// start, so that milliseconds suffice for a later one, and its text fits.
fn start_unit(since: i64, step: i64) -> i64 {
    if since < 10_000 { step } else { step.max(1_000) }
}

/// Cuts the longest gaps out of a piece if the rest would not be legible. Returns one piece if
/// nothing is cut.
fn cut<'a>(
    times: &'a [Timestamp],
    busy: &[(Timestamp, Timestamp)],
    room: f64,
) -> Vec<&'a [Timestamp]> {
    let gap = |it: &[Timestamp]| (weight(it[0], it[1], busy), it[1].since(it[0]));
    let mut gaps: Vec<(i64, i64)> = times.windows(2).map(gap).collect();
    gaps.sort_unstable();
    let mut after: f64 = gaps.iter().map(|it| to_f64(it.0.unsigned_abs())).sum();
    let mut before = 0.0;
    let mut shortest = None;
    for (at, pair) in gaps.windows(2).enumerate() {
        before += to_f64(pair[0].1.unsigned_abs());
        after -= to_f64(pair[0].0.unsigned_abs());
        let needed = (to_f64(at as u64 + 1) * LEGIBLE).min(room / 2.0);
        let is_worth_it = at >= 2 || pair[1].0 > SHORT;
        if is_worth_it && before / (before + after) * room < needed && pair[1].0 / JUMP >= pair[0].0
        {
            shortest = Some(pair[1].0);
        }
    }
    let Some(shortest) = shortest else { return vec![times] };
    let mut pieces = Vec::new();
    let mut begin = 0;
    for (at, pair) in times.windows(2).enumerate() {
        if weight(pair[0], pair[1], busy) >= shortest {
            pieces.push(&times[begin..=at]);
            begin = at + 1;
        }
    }
    pieces.push(&times[begin..]);
    pieces
}

/// Returns the length of a gap, reduced if a step runs in it.
fn weight(from: Timestamp, to: Timestamp, busy: &[(Timestamp, Timestamp)]) -> i64 {
    let runs = busy.iter().any(|(start, end)| *start <= from && *end >= to);
    to.since(from) / if runs { 4 } else { 1 }
}

/// Interpolates the position of a time between two positions.
fn between(one: (Timestamp, f64), other: (Timestamp, f64), at: Timestamp) -> f64 {
    let whole = to_f64(other.0.since(one.0).max(1).unsigned_abs());
    let part = to_f64(at.since(one.0).max(0).unsigned_abs());
    one.1 + (other.1 - one.1) * (part / whole).min(1.0)
}

/// Converts a number of microseconds or items. Numbers above 2^53 do not fit on a screen.
#[allow(clippy::cast_precision_loss)]
pub(super) fn to_f64(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::testing::at;

    fn axis(ms: &[i64]) -> Axis {
        Axis::new(ms.iter().map(|ms| at(*ms)).collect(), None, &[], (0.0, 900.0))
    }

    #[test]
    fn short_times_are_to_scale_and_have_no_break() {
        let axis = axis(&[0, 5, 10, 20, 40]);
        assert_eq!(axis.breaks().len(), 0);
        let per_ms = (axis.x(at(40)) - axis.x(at(0))) / 40.0;
        assert!((axis.x(at(10)) - axis.x(at(5)) - 5.0 * per_ms).abs() < 0.001);
        assert!(per_ms > 20.0, "the width is used: {per_ms}");
    }

    #[test]
    fn three_milliseconds_and_ninety_seconds_are_both_legible() {
        let axis = axis(&[0, 1, 2, 3, 90_000, 90_001, 90_004]);
        let breaks = axis.breaks();
        assert_eq!(breaks.iter().map(|it| it.micros).collect::<Vec<_>>(), [89_997_000]);
        assert!(axis.x(at(3)) - axis.x(at(0)) > 200.0);
        assert!(axis.x(at(90_004)) - axis.x(at(90_000)) > 200.0);
        assert!(breaks[0].x0 > axis.x(at(3)) && breaks[0].x1 < axis.x(at(90_000)));
    }

    #[test]
    fn retries_that_come_again_and_again_are_all_cut() {
        let mut times = vec![0, 2, 4, 5];
        times.extend((1..=5).map(|it| it * 30_000));
        assert_eq!(axis(&times).breaks().len(), 5);
    }

    #[test]
    fn the_text_of_a_moment_ends_before_that_of_the_break_after_it() {
        let micros =
            [0, 2_000, 5_000, 7_000, 603_242, 2_494_117, 11_700_003, 25_757_041, 25_760_000];
        let times = micros.iter().map(|it| at(0).plus(*it)).collect();
        let axis = Axis::new(times, None, &[], (0.0, 600.0));
        let moments = axis.ticks().into_iter().filter(|it| it.begins_piece).skip(1);
        let mut seen = 0;
        for (tick, gap) in moments.zip(axis.breaks().iter().skip(1)) {
            let end = tick.x + width(&precise(tick.micros, tick.unit));
            assert!(end <= gap.x0, "{tick:?} reaches {end}, into {gap:?}");
            seen += 1;
        }
        assert!(seen >= 2, "{:?}", axis.breaks());
    }

    #[test]
    fn what_runs_is_cut_less_easily_than_what_waits() {
        let times = || [0, 1, 2, 3, 4, 5, 6, 7, 8, 60].iter().map(|it| at(*it)).collect::<Vec<_>>();
        assert_eq!(Axis::new(times(), None, &[], (0.0, 400.0)).breaks().len(), 1);
        assert_eq!(Axis::new(times(), None, &[(at(8), at(60))], (0.0, 400.0)).breaks().len(), 0);
    }

    #[test]
    fn a_later_time_is_never_further_left() {
        let mut state = 17_u64;
        for _ in 0..200 {
            let mut times = Vec::new();
            for _ in 0..30 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                times.push(
                    10_i64.pow(u32::try_from(state >> 61).unwrap())
                        * i64::try_from((state >> 33) & 0xff).unwrap(),
                );
            }
            let axis = axis(&times);
            times.sort_unstable();
            let places: Vec<_> = times.iter().map(|ms| axis.x(at(*ms))).collect();
            assert!(places.is_sorted(), "{times:?} {places:?}");
            assert!(places.iter().all(|x| (0.0..=axis.x1).contains(x)));
            let ticks = axis.ticks();
            assert!(ticks.windows(2).all(|it| it[1].x - it[0].x > 40.0), "{ticks:?}");
            assert!(axis.breaks().len() < PIECES);
        }
    }

    #[test]
    fn hostile_times_have_a_place() {
        let never = Timestamp::parse("9999-12-31T23:59:59Z").unwrap().plus(i64::MAX);
        let axis = Axis::new(vec![at(0), at(1), never], None, &[(at(0), never)], (0.0, 900.0));
        assert!(axis.x(never) <= axis.x1 && axis.x(at(-5)) >= 0.0);
        assert!(axis.ticks().len() < 40);
        assert_eq!(Axis::new(Vec::new(), None, &[], (0.0, 900.0)).ticks().len(), 0);
    }
}
