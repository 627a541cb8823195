use std::fmt;

use super::group_lag::GroupLag;

/// State of a group's lag. If several apply, the worst.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// All messages are consumed, or few are left.
    Ok,
    /// Messages are waiting, fewer than the threshold.
    Behind,
    OverThreshold,
    Stalled,
    LostMessages,
    TopicGone,
    Unknown,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Behind => "behind",
            Self::OverThreshold => "too far",
            Self::Stalled => "stalled",
            Self::LostMessages => "lost",
            Self::TopicGone => "no topic",
            Self::Unknown => "unknown",
        })
    }
}

impl GroupLag {
    /// Returns its state. `threshold` is a number of messages.
    pub(crate) fn state(&self, threshold: u64) -> State {
        if !self.missing_topics.is_empty() {
            return State::TopicGone;
        }
        match self.messages() {
            None => State::Unknown,
            Some(_) if self.is_stalled() => State::Stalled,
            Some(_) if self.lost() > 0 => State::LostMessages,
            Some(messages) if messages > threshold => State::OverThreshold,
            Some(0) => State::Ok,
            Some(_) => State::Behind,
        }
    }

    /// Returns `false` if an operator has to act.
    pub(crate) fn is_well(&self, threshold: u64) -> bool {
        matches!(self.state(threshold), State::Ok | State::Behind)
    }
}

#[cfg(test)]
mod tests {
    use super::super::group_lag::tests::behind;
    use super::*;

    #[test]
    fn the_worst_is_shown() {
        let state = |group: &GroupLag| group.state(10);
        assert_eq!(state(&behind(0, 0)), State::Ok);
        assert_eq!(state(&behind(10, 1)), State::Behind);
        let mut group = behind(11, 1);
        assert_eq!(state(&group), State::OverThreshold);
        group.partitions[0].lost = 1;
        assert_eq!(state(&group), State::LostMessages);
        group.unknown = Some("no leader".into());
        assert_eq!(state(&group), State::Unknown);
        group.missing_topics = vec!["t".into()];
        assert_eq!(state(&group), State::TopicGone);
        assert!(!group.is_well(10) && behind(10, 1).is_well(10));
    }
}
