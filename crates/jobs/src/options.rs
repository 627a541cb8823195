use std::time::Duration;

/// How a worker works.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// How many jobs run side by side; at least one. Each kind has a limit of its own below it:
    /// [`Handler::AT_ONCE`](crate::Handler::AT_ONCE).
    pub concurrency: usize,
    /// For how long a job is a worker's own without a sign of life; it gives one every third of it. So long waits a
    /// job whose worker was killed.
    pub lease: Duration,
    /// How often the database is asked for jobs that nobody woke the worker for.
    pub poll: Duration,
    /// How long a job whose worker died has the worker for itself, so that it is blamed if this one dies too; less if it ends
    /// before. Others are held up for no more than a tenth of the time.
    pub alone: Duration,
    /// How long a shutdown waits for jobs that run. What is not done then is given back.
    pub drain: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            concurrency: 32,
            lease: Duration::from_secs(30),
            poll: Duration::from_millis(200),
            alone: Duration::from_secs(3),
            drain: Duration::from_secs(5),
        }
    }
}
