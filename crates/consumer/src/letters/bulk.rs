use sqlx::{PgPool, Postgres, Transaction};

/// Begins a transaction whose statements may touch hundreds of thousands of letters: the pool's limit on a statement is for
/// fewer.
pub(super) async fn begin(pool: &PgPool) -> sqlx::Result<Transaction<'static, Postgres>> {
    pool.begin_with("begin; set local statement_timeout = '5min'").await
}
