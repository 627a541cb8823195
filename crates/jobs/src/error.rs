/// Why jobs could not be changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JobsError {
    /// The database failed before anything was changed.
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
    /// The database failed after some of the jobs were changed. The same request changes the
    /// others.
    #[error("the database failed after {changed} jobs were changed")]
    Interrupted {
        /// Number of changed jobs.
        changed: u64,
        /// The failure.
        source: sqlx::Error,
    },
    /// An id is unknown.
    #[error("{0}")]
    NotFound(String),
    /// The state of the jobs does not allow the change.
    #[error("{0}")]
    Conflict(String),
}
