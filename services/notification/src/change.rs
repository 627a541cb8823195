//! A change that a request makes in one transaction, at most once per `Idempotency-Key`.

use chassis::{Answer, Caller, IdempotencyKey, Problem};
use sqlx::{PgConnection, PgPool};

/// Makes a change and stores its answer for the key. Returns the stored answer if an earlier
/// request had this key. A change that is refused is rolled back, and its problem is not stored.
pub(crate) async fn once(
    pool: &PgPool,
    caller: &Caller,
    key: Option<&IdempotencyKey>,
    change: impl AsyncFnOnce(&mut PgConnection) -> Result<Answer, Problem>,
) -> Result<Answer, Problem> {
    let mut tx = pool.begin().await?;
    if let Some(key) = key
        && let Some(earlier) = key.claim(&mut tx, &caller.tenant).await?
    {
        return Ok(earlier);
    }
    let answer = change(&mut tx).await?;
    if let Some(key) = key {
        key.row(&caller.tenant, &answer).keep(&mut tx).await?;
    }
    tx.commit().await?;
    Ok(answer)
}
