//! Erases a customer's data from e-mails and deliveries.

use pg::{AddressIn, address_pattern};
use sqlx::PgPool;
use uuid::Uuid;

/// Maximum number of rows that a statement searches.
const CHUNK: i64 = 2_000;

/// Statements that find and erase the rows of a table that contain an address.
struct Erasable {
    /// Returns the last id of a chunk, and the ids of its rows that contain the address.
    find: &'static str,
    erase: &'static str,
}

/// An e-mail is deleted, sent or not.
const EMAILS: Erasable = Erasable {
    find: "with chunk as materialized (select id, recipient, subject, body, last_error from emails where id > $1 order by id limit $2)
           select (select id from chunk order by id desc limit 1),
                  array(select id from chunk
                        where recipient ~* ('^' || $3 || '$') or subject ~* $3 or body ~* $3 or last_error ~* $3)",
    erase: "with erased as materialized (select id from emails where id = any($1) order by id for update)
            delete from emails using erased where emails.id = erased.id",
};

/// A delivery is kept without its payload, as a record. A pending one is cancelled.
const DELIVERIES: Erasable = Erasable {
    find: "with chunk as materialized (select id, body, attempts from deliveries where id > $1 order by id limit $2)
           select (select id from chunk order by id desc limit 1),
                  array(select id from chunk where body ~* $3 or attempts::text ~* $3)",
    erase: "with erased as materialized (select id from deliveries where id = any($1) order by id for update)
            update deliveries
            set body = '{}', attempts = '[]', status = case when status = 'delivered' then status else 'cancelled' end
            from erased where deliveries.id = erased.id",
};

/// Erases all data that contains an e-mail address, as a whole word and in any case.
pub(crate) async fn erase(pool: PgPool, address: String) -> sqlx::Result<()> {
    let pattern = address_pattern(&address, AddressIn::Text);
    for rows in [EMAILS, DELIVERIES] {
        let mut after = Some(Uuid::nil());
        while let Some(id) = after {
            let mut tx = pool.begin().await?;
            let (last, named): (Option<Uuid>, Vec<Uuid>) = sqlx::query_as(rows.find)
                .bind(id)
                .bind(CHUNK)
                .bind(&pattern)
                .fetch_one(&mut *tx)
                .await?;
            // Jobs are locked before rows, as in `retention`.
            jobs::lock(&mut tx, &named).await?;
            sqlx::query(rows.erase).bind(&named).execute(&mut *tx).await?;
            jobs::forget_failed(&mut tx, &named).await?;
            tx.commit().await?;
            after = last;
        }
    }
    Ok(())
}
