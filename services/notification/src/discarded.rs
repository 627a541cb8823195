//! Fails e-mails and deliveries whose job an operator has discarded; they would wait, and be kept, for ever.

use sqlx::PgPool;
use uuid::Uuid;

/// How many rows one statement looks at.
const CHUNK: i64 = 1_000;
/// Names no operator: a worker of an earlier release removes a job that was restarted while it ran.
const REASON: &str = "its job is gone: it was discarded, or ended by an earlier release";

/// Those of the release before may have another id than their job, which then is found by its subject.
const EMAILS: &str = "with chunk as materialized (
         select id from emails where sent_at is null and failed_at is null and id > $1 order by id limit $2
     ), lost as materialized (
         select emails.id from emails join chunk using (id)
         where sent_at is null and failed_at is null
             and not exists (select from job where job.id = emails.id)
             and not exists (select from job where job.subject = order_id::text
                             and case when job.kind = 'send-email' then payload ->> 'kind' end = emails.kind)
         order by emails.id for update of emails skip locked
     ), failed as (
         update emails set failed_at = clock_timestamp(), last_error = $3 from lost where emails.id = lost.id)
     select id from chunk order by id desc limit 1";

/// A delivery that was requested again since the query has another round, and a job that the query could not see.
const DELIVERIES: &str = "with chunk as materialized (
         select id, round from deliveries where status = 'waiting' and id > $1 order by id limit $2
     ), lost as materialized (
         select deliveries.id from deliveries join chunk using (id, round)
         where status = 'waiting'
             and not exists (select from job where job.id = deliveries.id)
             and not exists (select from job where job.subject = coalesce(order_id, webhook_id)::text
                             and case when job.kind = 'deliver-webhook' then payload ->> 'delivery' end
                                 = deliveries.id::text)
         order by deliveries.id for update of deliveries skip locked
     ), failed as (
         update deliveries set status = 'failed', failed_reason = $3 from lost where deliveries.id = lost.id)
     select id from chunk order by id desc limit 1";

/// Records a failure for rows whose job is gone. A row and its job are written together, and the row is settled before
/// its job is removed or together with it, so a waiting row without a job has lost it.
pub(crate) async fn settle(pool: PgPool) -> sqlx::Result<()> {
    for statement in [EMAILS, DELIVERIES] {
        let mut after = Some(Uuid::nil());
        while let Some(id) = after {
            let chunk = sqlx::query_scalar(statement).bind(id).bind(CHUNK).bind(REASON);
            after = pg::in_turn(chunk.fetch_optional(&pool)).await?;
        }
    }
    Ok(())
}
