use std::time::{Duration, Instant};

/// The wait after the first refusal; short, because the topic may be about to be created.
const FIRST: Duration = Duration::from_millis(250);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(30);

/// A pause with its reason and the time of the next attempt. It lasts until a record is
/// acknowledged.
#[derive(Clone, Debug)]
pub(crate) struct PublishPause {
    tries: u32,
    since: Instant,
    until: Instant,
    pub(crate) why: String,
}

impl PublishPause {
    /// Starts a pause, or prolongs it if this is the result of its latest attempt. Later records of
    /// the same batch do not prolong it.
    pub(crate) fn extend(pause: &mut Option<Self>, now: Instant, why: &str) {
        let (tries, since) = match pause {
            Some(pause) if now < pause.until => return,
            Some(pause) => (pause.tries + 1, pause.since),
            None => (0, now),
        };
        let until = now + FIRST.saturating_mul(1 << tries.min(7)).min(LONGEST);
        *pause = Some(Self { tries, since, until, why: why.to_owned() });
    }

    /// Returns the duration of the pause so far.
    pub(crate) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }

    /// Returns the time of the next attempt.
    pub(crate) fn until(&self) -> Instant {
        self.until
    }

    /// Makes the next attempt due at once.
    #[cfg(test)]
    pub(crate) fn expire(&mut self) {
        self.until = Instant::now();
    }

    /// Returns whether the next attempt is due.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        now >= self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_attempt_that_fails_doubles_the_wait_up_to_30_s() {
        let mut now = Instant::now();
        let mut pause = None;
        let mut waits = Vec::new();
        for _ in 0..9 {
            PublishPause::extend(&mut pause, now, "refused");
            PublishPause::extend(&mut pause, now, "refused in the same batch");
            let until = pause.as_ref().map_or(now, PublishPause::until);
            waits.push((until - now).as_millis());
            now = until;
        }
        assert_eq!(waits, [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
    }
}
