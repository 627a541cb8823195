//! A change that a request makes in one transaction, once for its `Idempotency-Key`.

use chassis::{Answer, Caller, IdempotencyKey, Problem};
use sqlx::{PgConnection, PgPool, Postgres, Transaction};

/// The transaction of a request.
pub(crate) struct Change<'a> {
    tx: Transaction<'static, Postgres>,
    caller: &'a Caller,
    key: Option<&'a IdempotencyKey>,
}

impl<'a> Change<'a> {
    /// Begins the transaction. Returns `Err` with the answer if the change was made by an earlier request of this key.
    pub(crate) async fn begin(
        pool: &PgPool,
        caller: &'a Caller,
        key: Option<&'a IdempotencyKey>,
    ) -> Result<Result<Self, Answer>, Problem> {
        let mut tx = pool.begin().await?;
        if let Some(key) = key
            && let Some(earlier) = key.claim(&mut tx, &caller.tenant).await?
        {
            return Ok(Err(earlier));
        }
        Ok(Ok(Self { tx, caller, key }))
    }

    pub(crate) fn tx(&mut self) -> &mut PgConnection {
        &mut self.tx
    }

    /// Commits with the answer. An answer that refuses is not kept: it rolls back by returning the problem instead.
    pub(crate) async fn commit(mut self, answer: Answer) -> Result<Answer, Problem> {
        if let Some(key) = self.key {
            key.row(&self.caller.tenant, &answer).keep(&mut self.tx).await?;
        }
        self.tx.commit().await?;
        Ok(answer)
    }
}
