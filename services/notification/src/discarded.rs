//! Fails e-mails and deliveries whose job an operator has discarded. Otherwise they would wait, and
//! be kept, forever.

use sqlx::PgPool;
use uuid::Uuid;

/// Maximum number of rows that a statement reads.
const CHUNK: i64 = 1_000;
/// The reason does not blame an operator, because a worker of an earlier release also removes a job
/// that was restarted while it ran.
const REASON: &str = "its job is gone: it was discarded, or ended by an earlier release";

/// E-mails of the previous release may have another id than their job, so the job is also looked up
/// by its subject.
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

/// The round is compared because a delivery that was requested again meanwhile has a job that this
/// query's snapshot does not contain.
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

/// Fails rows whose job does not exist any more. A row and its job are inserted together, and the
/// row is settled before its job is removed or together with it, so a waiting row without a job was
/// left behind.
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
