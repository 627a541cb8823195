use std::time::Duration;

use sqlx::PgPool;

/// How long closed letters and ended replays are kept.
const KEPT: &str = "interval '30 days'";

/// Deletes old closed letters, and replays without remaining letters. A discarded letter stays as
/// long as the inbox row of a processed message, or for ever if that does: it has no such row, and
/// would take effect if its message came again.
pub(crate) async fn prune(
    pool: &PgPool,
    group: &str,
    inbox_retention: Option<Duration>,
    chunk: u32,
) -> sqlx::Result<()> {
    let letters = format!(
        "delete from dead_letter where seq = any (array(
             select seq from dead_letter
             where subscription = $1 and closed_at < clock_timestamp() - {KEPT}
                 and (status <> 'discarded' or closed_at < clock_timestamp() - make_interval(secs => $3))
             order by closed_at limit $2))"
    );
    let kept = inbox_retention.map(|it| it.as_secs_f64());
    pg::delete_in_chunks(pool, chunk, |limit| {
        let letters = sqlx::query(sqlx::AssertSqlSafe(letters.clone()));
        letters.bind(group.to_owned()).bind(limit).bind(kept)
    })
    .await?;
    // Not by the cascade alone, because a replay may have hundreds of thousands of letters.
    let items = format!(
        "delete from dead_letter_replay_item where ctid = any (array(
             select item.ctid from dead_letter_replay it join dead_letter_replay_item item on item.replay = it.id
             where it.subscription = $1 and it.ended_at < clock_timestamp() - {KEPT} limit $2))"
    );
    pg::delete_in_chunks(pool, chunk, |limit| {
        sqlx::query(sqlx::AssertSqlSafe(items.clone())).bind(group.to_owned()).bind(limit)
    })
    .await?;
    let replays = format!(
        "delete from dead_letter_replay where subscription = $1 and ended_at < clock_timestamp() - {KEPT}"
    );
    pg::bounded(sqlx::query(sqlx::AssertSqlSafe(replays)).bind(group).execute(pool)).await?;
    let groups = "delete from dead_letter_group triage
                where not exists (select 1 from dead_letter it where it.fingerprint = triage.fingerprint)";
    pg::bounded(sqlx::query(groups).execute(pool)).await?;
    Ok(())
}
