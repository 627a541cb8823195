use std::time::{Duration, Instant};

/// Divisor of the time that writing takes at most.
const SHARE: u32 = 5;
/// How much of the past counts as unused time.
const SAVED: Duration = Duration::from_secs(2);

/// Bounds the time that the recorder spends writing to a fifth. Unused time of the last two seconds
/// may be used later, so that after a slow write the next ones catch up.
pub(super) struct WriteBudget {
    /// The end of the time that the writes so far have used up.
    used_until: Instant,
}

impl WriteBudget {
    /// Creates a budget whose time counts from `now` on.
    pub(super) fn new(now: Instant) -> Self {
        Self { used_until: now }
    }

    /// Records a write from `began` to `ended`. Returns the earliest time of the next one.
    pub(super) fn spend(&mut self, began: Instant, ended: Instant) -> Instant {
        let oldest = began.checked_sub(SAVED).unwrap_or(began);
        self.used_until = self.used_until.max(oldest) + (ended - began) * SHARE;
        self.used_until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENTH: Duration = Duration::from_millis(100);

    #[test]
    fn writing_without_a_pause_takes_a_fifth_of_the_time() {
        let start = Instant::now();
        let (mut budget, mut now, mut written) = (WriteBudget::new(start), start, Duration::ZERO);
        while now < start + 600 * TENTH {
            let ended = now + TENTH;
            written += TENTH;
            now = budget.spend(now, ended).max(ended);
        }
        assert_eq!(written, 120 * TENTH);
    }

    #[test]
    fn a_slow_write_uses_the_time_that_fast_ones_have_left() {
        let start = Instant::now();
        let mut budget = WriteBudget::new(start);
        let later = start + 10 * TENTH;
        assert!(budget.spend(later, later + TENTH) <= later, "a second was unused");
        assert!(budget.spend(later + TENTH, later + 4 * TENTH) > later + 4 * TENTH);
    }

    #[test]
    fn an_hour_without_writes_saves_two_seconds() {
        let start = Instant::now();
        let mut budget = WriteBudget::new(start);
        let later = start + Duration::from_hours(1);
        let next = budget.spend(later, later + SAVED);
        assert_eq!(next, later + 4 * SAVED);
    }
}
