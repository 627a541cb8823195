use sandbox::testing::TestSpace;
use sqlx::PgPool;

#[tokio::test]
async fn every_row_is_deleted_whatever_the_chunk_and_no_other() {
    let space = TestSpace::new().await;
    let pool = PgPool::connect(space.database_url()).await.unwrap();
    sqlx::query("create table note (n int)").execute(&pool).await.unwrap();
    for (rows, chunk) in [(0, 4), (3, 4), (4, 4), (9, 4), (3, 0)] {
        sqlx::query("insert into note select generate_series(-2, $1)")
            .bind(rows)
            .execute(&pool)
            .await
            .unwrap();
        let deleted = pg::delete_in_chunks(&pool, chunk, |limit| {
            sqlx::query(
                "delete from note where ctid = any(array(select ctid from note where n > $1 limit $2))",
            )
            .bind(0)
            .bind(limit)
        });
        assert_eq!(deleted.await.unwrap(), u64::try_from(rows).unwrap(), "{rows} by {chunk}");
    }
    let kept: i64 = sqlx::query_scalar("select count(*) from note").fetch_one(&pool).await.unwrap();
    assert_eq!(kept, 5 * 3);
}
