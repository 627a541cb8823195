use sqlx::{PgPool, Postgres, Transaction};

/// Begins a transaction with a longer statement timeout than the pool's, for statements that change
/// hundreds of thousands of letters.
pub(super) async fn begin(pool: &PgPool) -> sqlx::Result<Transaction<'static, Postgres>> {
    pool.begin_with("begin; set local statement_timeout = '5min'").await
}
