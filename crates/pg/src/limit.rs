use std::time::Duration;

use crate::classification::classify;

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
