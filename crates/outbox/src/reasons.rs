use std::collections::BTreeSet;
use std::error::Error;

/// The reasons logged since something last worked, so that each is logged once and not with every
/// attempt.
#[derive(Default)]
pub(crate) struct LoggedReasons(BTreeSet<String>);

impl LoggedReasons {
    /// Records a reason with all its causes. Returns whether it is new. Digits do not count, since
    /// ports, processes and numbers of brokers vary between attempts.
    pub(crate) fn insert(&mut self, error: &(dyn Error + 'static)) -> bool {
        let mut reason = telemetry::error_chain(error);
        reason.retain(|letter| !letter.is_ascii_digit());
        self.0.insert(reason)
    }

    /// Forgets all reasons. Returns whether there were any.
    pub(crate) fn clear(&mut self) -> bool {
        !std::mem::take(&mut self.0).is_empty()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}
