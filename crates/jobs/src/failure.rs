use std::error::Error;
use std::fmt;
use std::time::Duration;

/// Maximum length of an error chain, since some errors quote whole responses.
const MAX_CHAIN: usize = 4096;

/// Why an attempt failed. `?` turns any error into a retryable failure.
///
/// `Failure` does not implement [`Error`], so that `?` can convert any error.
pub struct Failure {
    permanent: bool,
    not_before: Option<Duration>,
    deferred: Option<Duration>,
    exception: &'static str,
    error: Box<dyn Error + Send + Sync>,
}

impl Failure {
    /// Creates a failure without a retry, for a job that can never succeed, for example with an
    /// invalid address.
    pub fn permanent<E: Error + Send + Sync + 'static>(error: E) -> Self {
        Self { permanent: true, ..Self::from(error) }
    }

    /// Creates a failure with a retry, as `?` does.
    pub fn retryable<E: Error + Send + Sync + 'static>(error: E) -> Self {
        Self::from(error)
    }

    /// Sets the wait that the target asks for. The retry waits at least that long.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.not_before = Some(wait);
        self
    }

    /// Creates a result for a job that can't run now, for example because its target asked for a
    /// pause. The job runs again after `wait`, and this attempt does not count.
    pub fn deferred<E: Error + Send + Sync + 'static>(why: E, wait: Duration) -> Self {
        Self { deferred: Some(wait), ..Self::from(why) }
    }

    pub(crate) fn deferred_for(&self) -> Option<Duration> {
        self.deferred
    }

    pub(crate) fn not_before(&self) -> Option<Duration> {
        self.not_before
    }

    /// Returns whether the job is not retried.
    pub fn is_permanent(&self) -> bool {
        self.permanent
    }

    /// Returns the name of the error's type.
    pub(crate) fn exception(&self) -> &'static str {
        self.exception
    }

    /// Returns the error.
    pub fn error(&self) -> &(dyn Error + Send + Sync + 'static) {
        self.error.as_ref()
    }

    /// Returns the error and all its sources, one per line, as stored in the record.
    pub fn chain(&self) -> String {
        let mut chain = self.error.to_string();
        let mut source = self.error.source();
        while let Some(cause) = source {
            chain.push_str("\ncaused by: ");
            chain.push_str(&cause.to_string());
            source = cause.source();
        }
        // Postgres text can't contain NUL.
        let mut chain = chain.replace('\0', "\u{fffd}");
        chain.truncate(chain.floor_char_boundary(MAX_CHAIN));
        chain
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self {
            permanent: false,
            not_before: None,
            deferred: None,
            exception: std::any::type_name::<E>(),
            error: Box::new(error),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failure")
            .field("permanent", &self.permanent)
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the receipt was not sent")]
    struct NotSent(#[source] std::num::ParseIntError);

    fn not_sent() -> NotSent {
        NotSent("x".parse::<i32>().expect_err("no number"))
    }

    #[test]
    fn a_question_mark_makes_a_failure_that_is_worth_a_retry() {
        fn run() -> Result<(), Failure> {
            Err(not_sent())?;
            Ok(())
        }
        let failure = run().expect_err("failed");
        assert!(!failure.is_permanent());
        assert!(Failure::permanent(not_sent()).is_permanent());
        assert!(failure.exception().ends_with("NotSent"), "{}", failure.exception());
        assert_eq!(
            failure.chain(),
            "the receipt was not sent\ncaused by: invalid digit found in string"
        );
    }

    #[test]
    fn a_chain_is_bounded_and_fits_into_a_text() {
        let failure = Failure::from(std::io::Error::other(format!("\0{}", "ä".repeat(5_000))));
        let chain = failure.chain();
        assert!(chain.len() <= MAX_CHAIN && chain.starts_with("\u{fffd}ä"), "{}", chain.len());
    }
}
