//! Changes of jobs.

use crate::client::JobState;

/// A change of jobs.
pub(crate) struct JobChange {
    /// Name in the API.
    pub(crate) act: &'static str,
    pub(crate) question: &'static str,
    pub(crate) done: &'static str,
    /// States of the jobs that it may change.
    pub(crate) from: &'static [JobState],
    /// Why some jobs were skipped.
    pub(crate) skipped: &'static str,
}

pub(crate) const RETRY: JobChange = JobChange {
    act: "retry",
    question: "Retry",
    done: "will be retried",
    from: &[JobState::Failed],
    skipped: "left failed, since another job with its unique key is waiting or running",
};

pub(crate) const DISCARD: JobChange = JobChange {
    act: "discard",
    question: "Discard",
    done: "discarded",
    from: &[JobState::Failed, JobState::Waiting],
    skipped: "skipped, still running",
};

impl JobChange {
    /// Returns the change with this name in the API.
    pub(crate) fn named(act: &str) -> Option<&'static Self> {
        [&RETRY, &DISCARD].into_iter().find(|change| change.act == act)
    }
}
