use std::sync::Arc;
use std::time::{Duration, Instant};

/// Time limit for a partition to drain before the record of a refused key is sent.
const EMPTIES: Duration = Duration::from_millis(300);
/// Factor of the rest after an attempt: the partition serves its other keys for this multiple of
/// the attempt's duration.
const REST: u32 = 9;

/// Retries of a partition's refused keys.
///
/// Such a record is sent alone, so that a refusal concerns only this record, and the partition's
/// other rows wait meanwhile. So there is one retry at a time, and all of them together take at
/// most a tenth of the time.
#[derive(Debug, Default)]
pub(crate) struct Retries {
    current: Option<Retry>,
    next: Option<Instant>,
}

#[derive(Debug)]
struct Retry {
    key: Arc<str>,
    began: Instant,
    is_sent: bool,
}

impl Retries {
    /// Returns whether a retry may begin.
    pub(crate) fn may_begin(&self, now: Instant) -> bool {
        self.current.is_none() && self.next.is_none_or(|next| now >= next)
    }

    /// Lets the partition drain for a record of this key.
    pub(crate) fn begin(&mut self, key: Arc<str>, now: Instant) {
        self.current = Some(Retry { key, began: now, is_sent: false });
    }

    /// Returns whether the partition is reserved for a refused key.
    pub(crate) fn is_on(&self) -> bool {
        self.current.is_some()
    }

    /// Returns the key whose record is sent once the partition is empty.
    pub(crate) fn awaited(&self) -> Option<&Arc<str>> {
        self.current.as_ref().filter(|retry| !retry.is_sent).map(|retry| &retry.key)
    }

    /// Records that the record was sent.
    pub(crate) fn sent(&mut self) {
        if let Some(retry) = &mut self.current {
            retry.is_sent = true;
        }
    }

    /// Records that no record of the partition is in flight. Ends the retry if its record was sent.
    pub(crate) fn returned(&mut self, now: Instant) {
        if self.current.as_ref().is_some_and(|retry| retry.is_sent) {
            self.end(now);
        }
    }

    /// Abandons a retry if the partition did not drain in time.
    pub(crate) fn expire(&mut self, now: Instant) {
        let is_late =
            |retry: &Retry| !retry.is_sent && now.saturating_duration_since(retry.began) > EMPTIES;
        if self.current.as_ref().is_some_and(is_late) {
            self.end(now);
        }
    }

    /// Ends the retry.
    pub(crate) fn end(&mut self, now: Instant) {
        if let Some(retry) = self.current.take() {
            self.next = Some(now + now.saturating_duration_since(retry.began) * REST);
        }
    }

    /// Lets the next retry begin at once.
    #[cfg(test)]
    pub(crate) fn rested(&mut self) {
        self.next = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_follow_one_another_and_take_a_tenth_of_the_time() {
        let began = Instant::now();
        let at = |millis| began + Duration::from_millis(millis);
        let mut retries = Retries::default();
        retries.begin("K".into(), began);
        assert!(retries.is_on() && !retries.may_begin(at(1)));
        retries.returned(at(10));
        assert_eq!(retries.awaited().map(|key| &**key), Some("K"), "that was another record");
        retries.sent();
        retries.returned(at(20));
        assert!(!retries.is_on() && !retries.may_begin(at(199)) && retries.may_begin(at(200)));
    }

    #[test]
    fn a_partition_that_does_not_run_empty_is_given_back() {
        let began = Instant::now();
        let mut retries = Retries::default();
        retries.begin("K".into(), began);
        retries.expire(began + EMPTIES);
        assert!(retries.is_on());
        let late = began + EMPTIES + Duration::from_millis(1);
        retries.expire(late);
        assert!(!retries.is_on() && !retries.may_begin(late));
        retries.begin("K".into(), late);
        retries.sent();
        retries.expire(late + 2 * EMPTIES);
        assert!(retries.is_on(), "it was sent");
    }
}
