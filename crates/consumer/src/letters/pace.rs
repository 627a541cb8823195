//! The pace of a replay.

use std::time::Duration;

use tokio::time::Instant;

/// Maximum number of letters that share a transaction.
const BATCH: usize = 500;
/// With a rate, a batch holds the letters due within this time, in seconds.
const TICK: f64 = 0.25;

/// The pace of a replay: a rate, steps of a ramp, both or none.
pub(super) struct Pace {
    rate: Option<f64>,
    began: Instant,
    taken: u32,
    step: Option<Step>,
}

/// A step of a ramp.
struct Step {
    size: usize,
    left: usize,
    failed: usize,
}

impl Pace {
    pub(super) fn new(rate: Option<f64>, ramp: bool) -> Self {
        let step = ramp.then_some(Step { size: 1, left: 1, failed: 0 });
        Self { rate, began: Instant::now(), taken: 0, step }
    }

    /// Returns how many letters may be attempted next.
    pub(super) fn at_most(&self) -> usize {
        let by_rate = self.rate.map_or(BATCH, |rate| to_count(rate * TICK));
        let by_step = self.step.as_ref().map_or(BATCH, |step| step.left);
        BATCH.min(by_rate).min(by_step).max(1)
    }

    /// Counts letters, and returns until when to wait before the next ones.
    pub(super) fn due(&mut self, letters: usize) -> Option<Instant> {
        let after = |rate: f64| Duration::from_secs_f64(f64::from(self.taken) / rate);
        let mut due = self.rate.map(|rate| self.began + after(rate));
        // It does not catch up after a stall, so that the rate is never exceeded.
        let late = due.map_or(Duration::ZERO, |due| Instant::now().saturating_duration_since(due));
        if late.as_secs_f64() > TICK {
            self.began += late;
            due = due.map(|due| due + late);
        }
        self.taken = self.taken.saturating_add(u32::try_from(letters).unwrap_or(u32::MAX));
        due
    }

    /// Counts attempted letters. Returns the reason to pause, if this ends a step in which a letter
    /// failed.
    pub(super) fn done(&mut self, letters: usize, failed: usize) -> Option<String> {
        let step = self.step.as_mut()?;
        step.left = step.left.saturating_sub(letters);
        step.failed += failed;
        if step.left > 0 {
            return None;
        }
        if step.failed > 0 {
            return Some(format!("{} of a step of {} failed", step.failed, step.size));
        }
        let size = step.size.saturating_mul(10);
        *step = Step { size, left: size, failed: 0 };
        None
    }
}

/// Returns the whole part of a non-negative number.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast saturates")]
fn to_count(number: f64) -> usize {
    number as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ramp_goes_in_steps_and_ends_after_one_with_a_failure() {
        let mut pace = Pace::new(None, true);
        assert_eq!(pace.at_most(), 1);
        assert_eq!(pace.done(1, 0), None);
        assert_eq!(pace.at_most(), 10);
        assert_eq!(pace.done(4, 1), None, "the step goes on");
        assert_eq!(pace.at_most(), 6);
        assert_eq!(pace.done(6, 0).as_deref(), Some("1 of a step of 10 failed"));
    }

    #[test]
    fn a_rate_spreads_letters_over_time() {
        let mut pace = Pace::new(Some(100.0), false);
        assert_eq!(pace.at_most(), 25);
        assert_eq!(pace.due(25), Some(pace.began));
        assert_eq!(pace.due(25), Some(pace.began + Duration::from_millis(250)));
        assert_eq!(Pace::new(Some(0.5), false).at_most(), 1);
        assert_eq!(Pace::new(None, false).at_most(), BATCH);
    }
}
