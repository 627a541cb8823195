//! A change that a request makes in one transaction, once for its `Idempotency-Key`.

use chassis::{Answer, Caller, IdempotencyKey, Problem};
use sqlx::{PgConnection, PgPool, Postgres, Transaction};

/// The transaction of a request.
pub(crate) struct Change<'a> {
    tx: Transaction<'static, Postgres>,
    caller: &'a Caller,
    key: Option<&'a IdempotencyKey>,
}

/// What came of beginning a change.
pub(crate) enum Begun<'a> {
    /// It is to be made.
    New(Change<'a>),
    /// An earlier request of this key has made it, and was answered so.
    Repeated(Answer),
}

impl<'a> Change<'a> {
    /// Begins the transaction, or finds the answer of an earlier request.
    pub(crate) async fn begin(
        pool: &PgPool,
        caller: &'a Caller,
        key: Option<&'a IdempotencyKey>,
    ) -> Result<Begun<'a>, Problem> {
        let mut tx = pool.begin().await?;
        if let Some(key) = key
            && let Some(earlier) = key.claim(&mut tx, &caller.tenant).await?
        {
            return Ok(Begun::Repeated(earlier));
        }
        Ok(Begun::New(Self { tx, caller, key }))
    }

    pub(crate) fn tx(&mut self) -> &mut PgConnection {
        &mut self.tx
    }

    /// Keeps the answer for the key, and commits. A change that is refused is dropped instead, and its problem is not kept.
    pub(crate) async fn commit(mut self, answer: Answer) -> Result<Answer, Problem> {
        if let Some(key) = self.key {
            key.row(&self.caller.tenant, &answer).keep(&mut self.tx).await?;
        }
        self.tx.commit().await?;
        Ok(answer)
    }
}
