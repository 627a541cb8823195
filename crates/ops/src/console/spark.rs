use std::fmt::Write;
use std::time::Duration;

use crate::lag::words::grouped;
use crate::serve::TREND;

/// Size of the drawing; a page scales it.
pub(crate) const WIDTH: f64 = 120.0;
pub(crate) const HEIGHT: f64 = 24.0;
/// Maximum number of points: one for two pixels.
const MOST: usize = 60;

/// A curve of the last quarter of an hour.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Spark {
    /// Points of the curve for SVG.
    pub(crate) curve: String,
    /// The area below the curve.
    pub(crate) area: String,
    /// Text alternative.
    pub(crate) label: String,
}

impl Spark {
    /// Draws points, oldest first. Returns `None` if there are fewer than two.
    pub(crate) fn draw(points: &[(Duration, u64)]) -> Option<Self> {
        let [first, .., last] = points else { return None };
        let most = points.iter().map(|(_, value)| *value).max().unwrap_or(0);
        let (mut curve, mut end) = (String::new(), 0.0);
        for (ago, value) in thinned(points) {
            #[allow(clippy::cast_precision_loss)] // A drawing needs no precision.
            let y = HEIGHT - 1.0 - (HEIGHT - 2.0) * value as f64 / most.max(1) as f64;
            end = WIDTH * (1.0 - ago.as_secs_f64() / TREND.as_secs_f64());
            let _ = write!(curve, "{end:.1},{y:.1} ");
        }
        let start = WIDTH * (1.0 - first.0.as_secs_f64() / TREND.as_secs_f64());
        let curve = curve.trim_end().to_owned();
        let area = format!("{start:.1},{HEIGHT} {curve} {end:.1},{HEIGHT}");
        let label =
            format!("Last 15 minutes: at most {} messages, now {}", grouped(most), grouped(last.1));
        Some(Self { curve, area, label })
    }
}

/// Reduces the points: keeps the largest of each few, so that no peak is lost.
fn thinned(points: &[(Duration, u64)]) -> impl Iterator<Item = (Duration, u64)> {
    let few = points.len().div_ceil(MOST);
    let largest = |few: &[(Duration, u64)]| few.iter().copied().max_by_key(|(_, value)| *value);
    points.chunks(few).filter_map(largest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_runs_from_left_to_right_and_keeps_its_peak() {
        let at = |seconds| Duration::from_secs(seconds);
        let points: Vec<_> =
            (0..180).map(|at_| (at(900 - at_ * 5), if at_ == 77 { 1_000 } else { 1 })).collect();
        let spark = Spark::draw(&points).unwrap();
        let drawn: Vec<_> = spark.curve.split(' ').collect();
        assert!(drawn.len() <= MOST && drawn.iter().any(|it| it.ends_with(",1.0")), "{drawn:?}");
        let across = drawn.iter().map(|it| it.split_once(',').unwrap().0.parse::<f64>().unwrap());
        let across: Vec<_> = across.collect();
        assert!(across.is_sorted() && across[0] < 2.0 && across[across.len() - 1] > 118.0);
        assert_eq!(spark.label, "Last 15 minutes: at most 1,000 messages, now 1");
        assert_eq!(Spark::draw(&points[..1]), None);
    }
}
