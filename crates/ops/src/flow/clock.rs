//! Clocks that differ between services.

use super::collect::Asked;
use super::time::Timestamp;

/// Differences above this are shown, and the times of the service are corrected, in microseconds.
const TOLERATED: i64 = 250_000;

/// Differences between the services' clocks and this machine's.
pub(crate) struct Clocks {
    /// How far this machine's clock is behind, in microseconds, if it differs from all others by
    /// the same. The services' clocks are then taken as correct.
    pub(crate) ours_is_behind: Option<i64>,
    /// How far each service's clock is ahead of the correct one.
    pub(crate) ahead: Vec<i64>,
}

impl Clocks {
    pub(crate) fn new(services: &[Asked]) -> Self {
        let ahead: Vec<_> = services.iter().map(|it| it.clock.ahead()).collect();
        let answered = services.iter().filter(|it| !it.parts.is_empty());
        let answered: Vec<_> = answered.map(|it| it.clock.ahead()).collect();
        match (answered.iter().min(), answered.iter().max()) {
            (Some(least), Some(most))
                if answered.len() > 1
                    && !answered.contains(&0)
                    && most.saturating_sub(*least) <= TOLERATED =>
            {
                Self { ours_is_behind: Some(*least), ahead: vec![0; services.len()] }
            }
            _ => Self { ours_is_behind: None, ahead },
        }
    }
}

/// How far a service's clock is ahead of this machine's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Clock {
    ahead: i64,
    /// Half of the time that the request took, which is the uncertainty.
    within: i64,
}

impl Clock {
    /// Compares the service's time with this machine's just before and after the request.
    pub(crate) fn compare(before: Timestamp, theirs: Timestamp, after: Timestamp) -> Self {
        let ahead = theirs.since(Timestamp::between(before, after));
        Self { ahead, within: after.since(before).max(0) / 2 }
    }

    /// Returns the microseconds by which the clock is ahead, or 0 if the difference is tolerated or
    /// below the uncertainty.
    pub(crate) fn ahead(self) -> i64 {
        let differs = self.ahead.saturating_abs() > TOLERATED.saturating_add(self.within);
        if differs { self.ahead } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ahead(theirs_ms: i64, took_ms: i64) -> i64 {
        let before = Timestamp::parse("2026-11-26T01:30:00Z").unwrap();
        let after = before.plus(took_ms * 1000);
        Clock::compare(before, before.plus(theirs_ms * 1000), after).ahead() / 1000
    }

    #[test]
    fn a_quarter_of_a_second_is_tolerated_and_so_is_a_slow_answer() {
        assert_eq!(ahead(250, 0), 0);
        assert_eq!(ahead(251, 0), 251);
        assert_eq!(ahead(-5000, 10), -5005);
        assert_eq!(ahead(3000, 6000), 0);
        assert_eq!(ahead(6200, 6000), 0);
    }
}
