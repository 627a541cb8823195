//! When and for how long suspects may run alone, so that other jobs are delayed for at most a tenth
//! of the time.

use std::time::Duration;

use tokio::time::Instant;

/// Factor of the rest before the next suspects: a multiple of the delay of other jobs.
const REST: u32 = 9;
/// Divisor of the window for the first wait for running jobs.
const FIRST_WAIT: u32 = 3;
/// The longest wait, in windows: by default longer than e-mails and webhooks may take.
const LONGEST_WAIT: u32 = 12;
/// The longest window of a job that was suspected again and again, in windows.
const LONGEST_WINDOW: u32 = 20;

#[derive(Debug)]
pub(crate) struct Pace {
    window: Duration,
    wait: Duration,
    not_before: Instant,
}

impl Pace {
    /// Creates the pace. `window` is how long a suspect runs alone.
    pub(crate) fn new(window: Duration, now: Instant) -> Self {
        Self { window, wait: window / FIRST_WAIT, not_before: now }
    }

    pub(crate) fn not_before(&self) -> Instant {
        self.not_before
    }

    /// Returns how long to wait for running jobs.
    pub(crate) fn wait(&self) -> Duration {
        self.wait
    }

    /// Records that the running jobs did not end in time. The next wait is longer, or a suspect
    /// would never run if targets always hang.
    pub(crate) fn lengthen_wait(&mut self) {
        self.wait = (self.wait * 2).min(self.window * LONGEST_WAIT);
    }

    /// Records that the running jobs ended. The next wait is halved, and not reset, since that
    /// would fail again if targets always hang.
    pub(crate) fn shorten_wait(&mut self) {
        self.wait = (self.wait / 2).max(self.window / FIRST_WAIT);
    }

    /// Returns for how long suspects are started, one after another, once the running jobs have
    /// ended after a wait of `waited`: a pause that took long to reach is used for as long.
    pub(crate) fn budget(&self, waited: Duration) -> Duration {
        self.window.max(waited)
    }

    /// Returns how long a suspect runs alone. The window doubles each time it is suspected again,
    /// or a job that kills its worker slowly would never be blamed.
    pub(crate) fn window(&self, suspicions: u32) -> Duration {
        let doubled = 2_u32.saturating_pow(suspicions.saturating_sub(1));
        self.window * doubled.min(LONGEST_WINDOW)
    }

    /// Records that other jobs were delayed from `began` until `now`.
    pub(crate) fn held_up(&mut self, began: Instant, now: Instant) {
        self.not_before = now + (now - began) * REST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(3);

    #[test]
    fn other_jobs_are_held_up_for_a_tenth_of_the_time() {
        let began = Instant::now();
        let (mut pace, mut now, mut held_up) = (Pace::new(WINDOW, began), began, Duration::ZERO);
        for n in 0..1_000_u32 {
            let took = if n % 2 == 0 {
                let took = pace.wait();
                pace.lengthen_wait();
                took
            } else {
                pace.shorten_wait();
                pace.window(n % 7)
            };
            pace.held_up(now, now + took);
            held_up += took;
            now = pace.not_before();
        }
        assert_eq!(held_up * 10, now - began);
    }

    #[test]
    fn waits_and_windows_grow_to_a_bound() {
        let mut pace = Pace::new(WINDOW, Instant::now());
        let mut waits = Vec::new();
        for _ in 0..8 {
            waits.push(pace.wait().as_secs());
            pace.lengthen_wait();
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 36, 36]);
        let mut waits = Vec::new();
        for _ in 0..7 {
            pace.shorten_wait();
            waits.push(pace.wait().as_millis());
        }
        assert_eq!(waits, [18_000, 9_000, 4_500, 2_250, 1_125, 1_000, 1_000]);
        let budgets = [0, 3, 15].map(|waited| pace.budget(Duration::from_secs(waited)).as_secs());
        assert_eq!(budgets, [3, 3, 15]);
        let windows = [0, 1, 2, 3, 4, 5, 6, u32::MAX].map(|times| pace.window(times).as_secs());
        assert_eq!(windows, [3, 3, 6, 12, 24, 48, 60, 60]);
    }
}
