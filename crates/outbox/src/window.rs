/// How many bytes of a partition may be under way.
///
/// A broker refuses a whole batch that is larger than the topic's `max.message.bytes`, also one of small records. All that
/// is under way may become one batch, so there is never more of it than the topic takes; a record that is larger goes by
/// itself, and is refused without others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Window {
    bytes: usize,
    limit: usize,
    /// What the topic takes, as far as it is known.
    ceiling: usize,
    /// The cluster told it, so that a batch was refused for another reason than its size.
    is_told: bool,
    /// What was acknowledged since the limit was last raised.
    credit: usize,
}

impl Window {
    /// Less than any sensible limit of a topic. It is not widened until the limit was asked for.
    const START: usize = 16 * 1024;
    /// Less than the default of brokers, 1,048,588: for a topic of which the cluster does not tell.
    pub(crate) const LIMIT: usize = 1_000_000;
    /// A window that shrinks stays as large as a small event.
    const LEAST: usize = 1024;
    /// The limit rises by a byte for so many that are acknowledged.
    const RAISE: usize = 1024;
    /// And if the cluster does not tell what the topic takes: each attempt is a batch that may be refused.
    const RAISE_UNTOLD: usize = 64 * 1024;

    /// Returns the window of a topic of which nothing is known.
    pub(crate) fn new() -> Self {
        let (bytes, limit) = (Self::START, Self::START);
        Self { bytes, limit, ceiling: limit, is_told: false, credit: 0 }
    }

    /// Takes over what the topic takes in a batch.
    pub(crate) fn set_limit(&mut self, limit: usize, is_told: bool) {
        self.limit = limit.clamp(Self::LEAST, Self::LIMIT);
        (self.ceiling, self.is_told) = (self.limit, is_told);
        self.bytes = self.bytes.min(self.limit);
    }

    /// Returns how many bytes may be under way. One record may be in any case.
    pub(crate) fn bytes(self) -> usize {
        self.bytes
    }

    /// Lets one record at a time through, until one is acknowledged.
    pub(crate) fn probe(&mut self) {
        self.bytes = 0;
    }

    /// Widens the window by what was acknowledged.
    pub(crate) fn acknowledged(&mut self, bytes: usize) {
        self.raise_limit(bytes);
        self.bytes = self.bytes.saturating_add(bytes).min(self.limit);
    }

    /// Takes back what refused batches narrowed, little by little.
    fn raise_limit(&mut self, bytes: usize) {
        if self.limit < self.ceiling {
            let rate = if self.is_told { Self::RAISE } else { Self::RAISE_UNTOLD };
            self.credit = self.credit.saturating_add(bytes);
            self.limit = self.limit.saturating_add(self.credit / rate).min(self.ceiling);
            self.credit %= rate;
        }
    }

    /// Narrows the window after a batch was refused that may have had so many bytes, and finds out which record is to
    /// blame, one by one. The other records of the batch change nothing.
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

    /// The window of a topic of which the cluster does not tell what it takes.
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
