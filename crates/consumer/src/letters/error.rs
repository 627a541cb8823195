/// Errors of operations on dead letters. All except the first are errors of the request.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LettersError {
    /// The database is unavailable.
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
    /// There is no such letter, group or replay.
    #[error("{0}")]
    NotFound(String),
    /// The state of the letter or the replay does not allow the operation.
    #[error("{0}")]
    Conflict(String),
    /// A value is malformed.
    #[error("{0}")]
    Unprocessable(String),
}
