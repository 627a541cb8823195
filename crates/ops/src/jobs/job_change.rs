//! What can be done to jobs.

use crate::client::JobState;

/// A change of jobs.
pub(crate) struct JobChange {
    /// The API's word.
    pub(crate) act: &'static str,
    pub(crate) question: &'static str,
    pub(crate) done: &'static str,
    /// States from which it is possible.
    pub(crate) from: &'static [JobState],
    /// Why some were left alone.
    pub(crate) skipped: &'static str,
}

pub(crate) const RETRY: JobChange = JobChange {
    act: "retry",
    question: "Retry",
    done: "will be retried",
    from: &[JobState::Failed],
    skipped: "left failed, since another one of its unique key waits or runs",
};

pub(crate) const DISCARD: JobChange = JobChange {
    act: "discard",
    question: "Discard",
    done: "discarded",
    from: &[JobState::Failed, JobState::Waiting],
    skipped: "left alone, since it runs",
};

impl JobChange {
    /// Returns the change of the API's word.
    pub(crate) fn named(act: &str) -> Option<&'static Self> {
        [&RETRY, &DISCARD].into_iter().find(|change| change.act == act)
    }
}
