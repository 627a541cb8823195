/// Maximum bytes in flight of a partition.
///
/// A broker refuses a whole batch that exceeds the topic's `max.message.bytes`, even one of small
/// records. All records in flight may become one batch, so they never exceed that limit; a larger
/// record is sent alone, and refused without others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Window {
    bytes: usize,
    limit: usize,
    /// The topic's limit, as far as known.
    ceiling: usize,
    /// `true` if the cluster revealed the limit, so that a refused batch has another cause than its
    /// size.
    is_reported: bool,
    /// Bytes acknowledged since the limit was last raised.
    credit: usize,
}

impl Window {
    /// Initial window: less than any sensible limit of a topic. It does not grow until the limit
    /// was requested.
    const START: usize = 16 * 1024;
    /// Limit of a topic with an unknown limit: less than the brokers' default, 1,048,588.
    pub(crate) const LIMIT: usize = 1_000_000;
    /// Minimum window: the size of a small event.
    const LEAST: usize = 1024;
    /// Number of acknowledged bytes for which the limit rises by a byte.
    const RAISE: usize = 1024;
    /// The same for an unknown limit, where each growth may cause a refused batch.
    const RAISE_UNKNOWN: usize = 64 * 1024;

    /// Creates the window of an unknown topic.
    pub(crate) fn new() -> Self {
        let (bytes, limit) = (Self::START, Self::START);
        Self { bytes, limit, ceiling: limit, is_reported: false, credit: 0 }
    }

    /// Sets the topic's batch limit. If the cluster reported it, a window that was never narrowed
    /// opens at once, since no batch within the limit is refused for its size.
    pub(crate) fn set_limit(&mut self, limit: usize, is_reported: bool) {
        let is_narrowed = self.bytes < Self::START.min(self.limit) || self.limit < self.ceiling;
        self.limit = limit.clamp(Self::LEAST, Self::LIMIT);
        (self.ceiling, self.is_reported) = (self.limit, is_reported);
        let opens = is_reported && !is_narrowed;
        self.bytes = if opens { self.limit } else { self.bytes.min(self.limit) };
    }

    /// Returns the maximum bytes in flight. One record is always allowed.
    pub(crate) fn bytes(self) -> usize {
        self.bytes
    }

    /// Allows one record at a time, until one is acknowledged.
    pub(crate) fn probe(&mut self) {
        self.bytes = 0;
    }

    /// Widens the window by the acknowledged bytes.
    pub(crate) fn acknowledged(&mut self, bytes: usize) {
        self.raise_limit(bytes);
        self.bytes = self.bytes.saturating_add(bytes).min(self.limit);
    }

    /// Slowly restores the limit that refused batches have narrowed.
    fn raise_limit(&mut self, bytes: usize) {
        if self.limit < self.ceiling {
            let rate = if self.is_reported { Self::RAISE } else { Self::RAISE_UNKNOWN };
            self.credit = self.credit.saturating_add(bytes);
            self.limit = self.limit.saturating_add(self.credit / rate).min(self.ceiling);
            self.credit %= rate;
        }
    }

    /// Narrows the window after a refused batch of up to `held` bytes, and sends records one by one
    /// to find the refused one. Later records of the same batch have no effect.
    pub(crate) fn refused(&mut self, held: usize) {
        if self.bytes == 0 {
            return;
        }
        self.limit = (held / 2).clamp(Self::LEAST, self.limit);
        self.probe();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the window of a topic whose limit the cluster does not report.
    fn with_limit(limit: usize) -> Window {
        let mut window = Window::new();
        window.set_limit(limit, false);
        window
    }

    #[test]
    fn a_window_grows_with_what_is_acknowledged_up_to_what_the_topic_takes() {
        let mut window = with_limit(40_000);
        assert_eq!(window.bytes(), 16 * 1024);
        for _ in 0..100 {
            window.acknowledged(1_000);
        }
        assert_eq!(window.bytes(), 40_000);
        assert_eq!(with_limit(2_000).bytes(), 2_000);
        let mut unknown = Window::new();
        unknown.acknowledged(1 << 30);
        assert_eq!(unknown.bytes(), 16 * 1024, "until the topic's limit is known");
    }

    #[test]
    fn a_limit_that_the_cluster_reports_opens_a_window_that_no_refusal_has_narrowed() {
        let mut window = Window::new();
        window.set_limit(500_000, true);
        assert_eq!(window.bytes(), 500_000);
        let mut refused = with_limit(Window::LIMIT);
        refused.refused(10_000);
        refused.set_limit(500_000, true);
        assert_eq!(refused.bytes(), 0, "one record at a time, until one is acknowledged");
    }

    #[test]
    fn a_refused_batch_narrows_it_and_lets_one_record_through_at_a_time() {
        let mut window = with_limit(Window::LIMIT);
        window.acknowledged(1 << 30);
        window.refused(600_000);
        assert_eq!(window.bytes(), 0);
        window.acknowledged(300_000);
        assert_eq!(window.bytes(), 300_000);
    }

    #[test]
    fn a_batch_of_many_records_narrows_it_once_and_it_widens_again() {
        let mut window = with_limit(Window::LIMIT);
        window.acknowledged(1 << 30);
        for held in [600_000, 500_000, 100_000, 2_000] {
            window.refused(held); // one after the other comes back of the batch
        }
        window.acknowledged(300_000);
        assert!((300_000..301_000).contains(&window.bytes()), "{window:?}");
        let narrow = window.bytes();
        window.acknowledged(1_000_000);
        assert!(window.bytes() < narrow + 100, "slowly, since the cluster does not tell");
        window.set_limit(Window::LIMIT, true);
        window.refused(600_000);
        for _ in 0..1000 {
            window.acknowledged(1_000_000);
        }
        assert_eq!(window.bytes(), Window::LIMIT);
    }
}
