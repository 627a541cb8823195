//! Refusals of the cluster. The client reports them once, and does not say when they end.

use std::time::{Duration, Instant};

use kafka::rdkafka::error::RDKafkaErrorCode as Code;

/// Interval of the questions whether a cluster that refused the client answers again.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// The cluster refuses because of a missing permission or its configuration, until a record
/// arrives, or the refusal is known to have ended.
#[derive(Debug)]
pub(super) struct Refusal {
    code: Code,
    /// Number of assignments before it.
    assignments: u64,
    /// When it was reported, or the cluster was last asked.
    asked: Instant,
}

impl Refusal {
    /// Returns the refusal that an error reports. Other errors are temporary.
    pub(super) fn reported_by(code: Code, assignments: u64, now: Instant) -> Option<Self> {
        let refuses = matches!(
            code,
            Code::TopicAuthorizationFailed
                | Code::GroupAuthorizationFailed
                | Code::ClusterAuthorizationFailed
                | Code::SaslAuthenticationFailed
                | Code::Authentication
                | Code::SSL
                | Code::InvalidTopic
                | Code::InvalidGroupId
        );
        refuses.then_some(Self { code, assignments, asked: now })
    }

    /// Returns whether the group has assigned partitions since, which it refused.
    pub(super) fn has_ended(&self, assignments: u64) -> bool {
        self.code == Code::GroupAuthorizationFailed && assignments > self.assignments
    }

    /// Returns whether an answer of the cluster ends it, and it is time to ask.
    pub(super) fn is_to_be_asked(&mut self, now: Instant) -> bool {
        let by_any_answer =
            matches!(self.code, Code::SaslAuthenticationFailed | Code::Authentication | Code::SSL);
        let is_due = by_any_answer && now.saturating_duration_since(self.asked) >= ASK_AGAIN;
        if is_due {
            self.asked = now;
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_ends_by_what_it_refused() {
        let now = Instant::now();
        let of = |code| Refusal::reported_by(code, 3, now);
        assert!(of(Code::BrokerTransportFailure).is_none());
        for (code, by_group, by_answer) in [
            (Code::GroupAuthorizationFailed, true, false),
            (Code::Authentication, false, true),
            (Code::TopicAuthorizationFailed, false, false),
        ] {
            let mut refusal = of(code).unwrap();
            assert_eq!([3, 4].map(|it| refusal.has_ended(it)), [false, by_group], "{code:?}");
            let times = [now, now + ASK_AGAIN, now + ASK_AGAIN];
            let asked = times.map(|at| refusal.is_to_be_asked(at));
            assert_eq!(asked, [false, by_answer, false], "{code:?}");
        }
    }
}
