use std::time::Duration;

use crate::classification::classify;

/// Limit of [`bounded`]: more than waiting for a connection and a statement may take together, each
/// of which has a limit of its own in a pool's default settings.
const STATEMENT: Duration = Duration::from_secs(20);

/// Waits for a statement, or for a short transaction, [at most](within) 20 s. A task that waits for
/// an answer without a limit never ends if the server's host disappears silently.
///
/// # Errors
/// Fails like [`within`].
pub async fn bounded<T>(statement: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    within(STATEMENT, statement).await
}

/// Waits at most `limit` for the result of a statement or of a connection. A connection can be lost
/// silently, and the server's own limits do not help a client that it can't reach.
///
/// # Errors
/// Fails with [`sqlx::Error::Io`] of the kind `TimedOut` after the limit. The server may still
/// execute the statement, also if the future is dropped.
pub async fn within<T>(
    limit: Duration,
    statement: impl Future<Output = sqlx::Result<T>>,
) -> sqlx::Result<T> {
    let elapsed = |_| sqlx::Error::Io(std::io::ErrorKind::TimedOut.into());
    let answer = tokio::time::timeout(limit, statement).await.map_err(elapsed)?;
    // Classified, so that a refused session is not used again.
    answer.inspect_err(|error| _ = classify(error))
}
