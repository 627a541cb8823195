/// How many bytes of a partition may be under way.
///
/// A broker refuses a whole batch that is larger than the topic's `max.message.bytes`, also one of small records. All that
/// is under way may become one batch, so there is never more of it than the topic takes; a record that is larger goes by
/// itself, and is refused without others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Window {
    bytes: usize,
    limit: usize,
}

impl Window {
    /// Less than any sensible limit of a topic. It is not widened until the limit was asked for.
    const START: usize = 16 * 1024;
    /// Less than the default of brokers, 1,048,588: for a topic of which the cluster does not tell.
    pub(crate) const LIMIT: usize = 1_000_000;
    /// A window that shrinks stays as large as a small event.
    const LEAST: usize = 1024;

    pub(crate) fn new(limit: Option<usize>) -> Self {
        let limit = limit.unwrap_or(Self::START).clamp(Self::LEAST, Self::LIMIT);
        Self { bytes: Self::START.min(limit), limit }
    }

    /// Takes over what the topic takes in a batch.
    pub(crate) fn set_limit(&mut self, limit: usize) {
        self.limit = limit.clamp(Self::LEAST, Self::LIMIT);
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
        self.bytes = self.bytes.saturating_add(bytes).min(self.limit);
    }

    /// Narrows the window after a batch was refused that may have had so many bytes, and finds out which record is to
    /// blame, one by one.
    pub(crate) fn refused(&mut self, held: usize) {
        self.limit = (held / 2).clamp(Self::LEAST, self.limit);
        self.probe();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_grows_with_what_is_acknowledged_up_to_what_the_topic_takes() {
        let mut window = Window::new(Some(40_000));
        assert_eq!(window.bytes(), 16 * 1024);
        for _ in 0..100 {
            window.acknowledged(1_000);
        }
        assert_eq!(window.bytes(), 40_000);
        assert_eq!(Window::new(Some(2_000)).bytes(), 2_000);
        let mut unknown = Window::new(None);
        unknown.acknowledged(1 << 30);
        assert_eq!(unknown.bytes(), 16 * 1024, "until the topic's limit is known");
    }

    #[test]
    fn a_refused_batch_narrows_it_and_lets_one_record_through_at_a_time() {
        let mut window = Window::new(Some(Window::LIMIT));
        window.acknowledged(1 << 30);
        window.refused(600_000);
        assert_eq!(window.bytes(), 0);
        window.acknowledged(1 << 30);
        assert_eq!(window.bytes(), 300_000);
    }
}
