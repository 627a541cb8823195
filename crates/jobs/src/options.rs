use std::time::Duration;

/// Options of a worker.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// Maximum number of concurrent jobs; at least one. Each kind has its own limit,
    /// [`Handler::AT_ONCE`](crate::Handler::AT_ONCE). Default 32.
    pub concurrency: usize,
    /// Duration of a lease. It is renewed after each third. A job whose worker was killed waits for
    /// this time. Default 30 s.
    pub lease: Duration,
    /// Polling interval, for jobs that were enqueued without waking this worker. Default 200 ms.
    pub poll: Duration,
    /// How long a job whose worker died runs alone, at most, so that it is blamed if this worker
    /// dies too. Other jobs are delayed for at most a tenth of the time. Default 3 s.
    pub alone: Duration,
    /// How long a shutdown waits for running jobs. Unfinished jobs are released. Default 5 s.
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
