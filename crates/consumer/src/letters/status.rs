//! Discards and restores letters.

use sqlx::{PgPool, QueryBuilder};
use uuid::Uuid;

use super::bulk;
use super::letter::unknown;
use super::{LettersError, Selection};

/// Discards dead or parked letters of a group; they are pruned later. Returns their number. Waits
/// for other changes of letters in this process, and for erasures.
///
/// # Errors
/// Fails if an id is unknown, no selected letter can be discarded, or the database is unavailable.
pub async fn discard_letters(
    pool: &PgPool,
    group: &str,
    selection: &Selection,
) -> Result<u64, LettersError> {
    let change = StatusChange {
        set: "discarded_as = status, status = 'discarded', closed_at = clock_timestamp()",
        from: &["dead", "parked"],
        nothing: "none of these letters is dead or parked",
    };
    change.make(pool, group, selection).await
}

/// Restores discarded letters of a group as dead, or as parked if they were. Returns their number.
/// Waits for other changes of letters in this process, and for erasures.
///
/// # Errors
/// Fails if an id is unknown, no selected letter is discarded, or the database is unavailable.
pub async fn restore_letters(
    pool: &PgPool,
    group: &str,
    selection: &Selection,
) -> Result<u64, LettersError> {
    let change = StatusChange {
        set: "status = coalesce(discarded_as, 'dead'), closed_at = null",
        from: &["discarded"],
        nothing: "none of these letters is discarded",
    };
    change.make(pool, group, selection).await
}

struct StatusChange {
    set: &'static str,
    from: &'static [&'static str],
    nothing: &'static str,
}

impl StatusChange {
    async fn make(
        &self,
        pool: &PgPool,
        group: &str,
        selection: &Selection,
    ) -> Result<u64, LettersError> {
        if let Selection::Ids(ids) = selection {
            all_known(pool, group, ids).await?;
        }
        // Erased content can't be restored.
        let mut query = QueryBuilder::new(format!(
            "update dead_letter set {} where erased_at is null and subscription = ",
            self.set
        ));
        query.push_bind(group).push(" and status = any(").push_bind(self.from).push(")");
        selection.constrain(&mut query);
        let changing = async {
            let mut tx = bulk::begin(pool).await?;
            let changed = query.build().execute(&mut *tx).await?.rows_affected();
            tx.commit().await?;
            Ok(changed)
        };
        let _turn = bulk::turn().await;
        let changed = bulk::bounded(Box::pin(changing)).await?;
        if changed == 0 {
            return Err(LettersError::Conflict(self.nothing.to_owned()));
        }
        Ok(changed)
    }
}

/// Fails if a group has no letter of one of these ids.
pub(super) async fn all_known(
    pool: &PgPool,
    group: &str,
    ids: &[Uuid],
) -> Result<(), LettersError> {
    let missing: Option<Uuid> = sqlx::query_scalar(
        "select asked.id from unnest($2::uuid[]) asked (id)
         where not exists (select 1 from dead_letter it where it.id = asked.id and it.subscription = $1)
         limit 1",
    )
    .bind(group)
    .bind(ids)
    .fetch_optional(pool)
    .await?;
    missing.map_or(Ok(()), |id| Err(unknown(id)))
}
