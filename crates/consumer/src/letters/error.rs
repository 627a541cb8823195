/// Why something can't be done about dead letters. All but the first say what is wrong with what was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LettersError {
    /// The database is unavailable.
    #[error("the database did not do it")]
    Database(#[from] sqlx::Error),
    /// There is no such letter, group or replay.
    #[error("{0}")]
    NotFound(String),
    /// It can't be done in the state that a letter or a replay is in.
    #[error("{0}")]
    Conflict(String),
    /// A value is malformed.
    #[error("{0}")]
    Unprocessable(String),
}
