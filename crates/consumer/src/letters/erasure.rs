//! Erases a customer's data from letters.

use pg::{AddressIn, address_pattern};
use sqlx::{PgConnection, PgPool};

use super::{LettersError, bulk};

/// Other columns that may contain text from a message or an operator. `replay` has rows of earlier
/// releases, which also left the address in the ids of letters that they erased.
const ELSEWHERE: [&str; 11] = [
    "update attempt set failures = '[]', reason = case when reason is null then null else 'erased' end
     where failures::text ~* $1 or reason ~* $1",
    "update attempt
     set event_id = case when event_id ~* $1 then null else event_id end,
         subject = case when subject ~* $1 then null else subject end,
         correlation_id = case when correlation_id ~* $1 then null else correlation_id end
     where event_id ~* $1 or subject ~* $1 or correlation_id ~* $1",
    "update dead_letter
     set event_id = case when event_id ~* $1 then null else event_id end,
         source = case when source ~* $1 then null else source end,
         tenant = case when tenant ~* $1 then null else tenant end,
         correlation_id = case when correlation_id ~* $1 then null else correlation_id end
     where event_id ~* $1 or source ~* $1 or tenant ~* $1 or correlation_id ~* $1",
    "update dead_letter_replay_item set reason = 'erased' where reason ~* $1",
    "update dead_letter_replay set why = 'erased' where why ~* $1",
    "update dead_letter_replay set note = 'erased' where note ~* $1",
    "update dead_letter_group set note = 'erased' where note ~* $1",
    "update dead_letter set edited_why = 'erased' where edited_why ~* $1",
    "update breaker set reason = 'erased' where reason ~* $1",
    "update pause set why = 'erased' where why ~* $1",
    "update replay set reason = 'erased' where reason ~* $1",
];

/// Erases the content of letters that contain an e-mail address, for a customer's request of
/// erasure. Open letters are discarded, since nothing is left to replay. Returns their number. A
/// letter keeps the attributes of its event that do not contain the address, except the subject.
///
/// The address is matched in upper and lower case, and only as a whole, not as a part of a longer
/// address. JSON escapes (`\u0040`) and Base64 are not decoded. Copies on `<group>.dlq` remain,
/// because records of a topic can only be deleted up to an offset.
///
/// Waits for other erasures in this process, and for letters that are being discarded or restored.
///
/// # Errors
/// Fails and erases nothing if a letter with the address is being replayed, or the database is
/// unavailable.
pub async fn erase_letters(pool: &PgPool, address: &str) -> Result<u64, LettersError> {
    if address.is_empty() {
        return Err(LettersError::Unprocessable(
            "the address to erase must not be empty".to_owned(),
        ));
    }
    let text = address_pattern(address, AddressIn::Text);
    let bytes = address_pattern(address, AddressIn::Bytes);
    Box::pin(erase_everywhere(pool, &text, &bytes)).await
}

/// Erases in one transaction. Its statements are bounded one by one, since each may take minutes.
async fn erase_everywhere(pool: &PgPool, text: &str, bytes: &str) -> Result<u64, LettersError> {
    let _turn = bulk::turn().await;
    let mut tx = bulk::bounded(bulk::begin(pool)).await?;
    let (erased, replaying) = bulk::bounded(erase(&mut tx, text, bytes)).await?;
    if replaying > 0 {
        return Err(LettersError::Conflict(format!(
            "{replaying} letters with the address are being replayed; wait for the end of the replay, or cancel it"
        )));
    }
    for statement in ELSEWHERE {
        bulk::bounded(sqlx::query(statement).bind(text).execute(&mut *tx)).await?;
    }
    bulk::bounded(tx.commit()).await?;
    Ok(erased)
}

/// Returns the numbers of erased letters, and of letters that are being replayed and stay.
async fn erase(tx: &mut PgConnection, text: &str, bytes: &str) -> sqlx::Result<(u64, i64)> {
    let counts: (i64, i64) = sqlx::query_as(
        "with named as (
             select seq, status from dead_letter
             where erased_at is null
               and (encode(value, 'escape') ~* $2 or encode(value_before, 'escape') ~* $2 or encode(key, 'escape') ~* $2
                    or exists (select 1 from unnest(header_values) it (value) where encode(it.value, 'escape') ~* $2)
                    or reason ~* $1 or causes ~* $1 or attempts::text ~* $1 or event_id ~* $1 or source ~* $1 or subject ~* $1
                    or tenant ~* $1 or correlation_id ~* $1)
             for update
         ), erased as (
             update dead_letter it
             set key = null, value = null, value_before = null, header_names = '{}', header_values = '{}', attempts = '[]',
                 reason = 'erased', causes = 'erased', subject = null, erased_at = clock_timestamp(),
                 copied_at = coalesce(copied_at, clock_timestamp()),
                 status = case when it.status = 'resolved' then it.status else 'discarded' end,
                 closed_at = coalesce(closed_at, clock_timestamp())
             from named where it.seq = named.seq and named.status <> 'replaying'
             returning 1
         )
         select (select count(*) from erased), (select count(*) from named where status = 'replaying')",
    )
    .bind(text)
    .bind(bytes)
    .fetch_one(tx)
    .await?;
    Ok((counts.0.unsigned_abs(), counts.1))
}
