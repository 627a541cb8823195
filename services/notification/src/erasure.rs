//! What e-mails and deliveries hold of a customer is erased.

use pg::{AddressIn, address_pattern};
use sqlx::PgPool;
use uuid::Uuid;

/// How many rows one statement looks through.
const CHUNK: i64 = 2_000;

/// An e-mail is deleted, sent or not.
const EMAILS: &str = "with chunk as materialized (select id from emails where id > $1 order by id limit $2),
     erased as (
         delete from emails using chunk
         where emails.id = chunk.id and (recipient ~* $3 or subject ~* $3 or body ~* $3 or last_error ~* $3)
         returning emails.id)
     select (select id from chunk order by id desc limit 1), array(select id from erased)";

/// A delivery stays as a record that something was sent, without what it said. One that is still to be made is not.
const DELIVERIES: &str = "with chunk as materialized (select id from deliveries where id > $1 order by id limit $2),
     erased as (
         update deliveries
         set body = '{}', attempts = '[]', status = case when status = 'delivered' then status else 'cancelled' end
         from chunk where deliveries.id = chunk.id and (body ~* $3 or attempts::text ~* $3)
         returning deliveries.id)
     select (select id from chunk order by id desc limit 1), array(select id from erased)";

/// Erases what names an e-mail address, as a whole and in any case.
pub(crate) async fn erase(pool: PgPool, address: String) -> sqlx::Result<()> {
    let pattern = address_pattern(&address, AddressIn::Text);
    for statement in [EMAILS, DELIVERIES] {
        let mut after = Uuid::nil();
        loop {
            let mut tx = pool.begin().await?;
            let (last, erased): (Option<Uuid>, Vec<Uuid>) = sqlx::query_as(statement)
                .bind(after)
                .bind(CHUNK)
                .bind(&pattern)
                .fetch_one(&mut *tx)
                .await?;
            jobs::forget_failed(&mut tx, &erased).await?;
            tx.commit().await?;
            let Some(last) = last else { break };
            after = last;
        }
    }
    Ok(())
}
