//! The highest version applied, per source and subject.

use std::collections::{BTreeMap, HashMap};

use sqlx::PgConnection;

/// Scope of a version: the source that counts it, and the subject.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct VersionScope<'a> {
    pub(crate) source: &'a str,
    pub(crate) subject: &'a str,
}

/// The version applied before, by scope.
pub(crate) type Applied<'a> = HashMap<VersionScope<'a>, i64>;

#[derive(sqlx::FromRow)]
struct StoredVersion {
    source: String,
    subject: String,
    before: i64,
    raced: bool,
}

/// Raises the stored versions to the highest of those given. Returns the previous ones, 0 where
/// there were none. Their rows stay locked until the transaction ends.
///
/// Existing rows are locked before they are raised, so that the previous version is correct. A
/// missing row can't be locked: if another transaction inserts it at the same time, it is locked
/// first and raised in a second round.
pub(crate) async fn raise<'a>(
    tx: &mut PgConnection,
    subscription: &str,
    given: &[(VersionScope<'a>, i64)],
) -> sqlx::Result<Applied<'a>> {
    let mut highest = BTreeMap::new();
    for (counted, version) in given {
        let known = highest.entry(*counted).or_insert(*version);
        *known = (*known).max(*version);
    }
    let mut applied = Applied::new();
    while !highest.is_empty() {
        let known = raise_once(tx, subscription, &highest).await?;
        let settled = known.iter().filter(|row| !row.raced);
        let settled: HashMap<_, _> =
            settled.map(|row| ((&*row.source, &*row.subject), row.before)).collect();
        highest.retain(|counted, _| match settled.get(&(counted.source, counted.subject)) {
            Some(before) => {
                applied.insert(*counted, *before);
                false
            }
            None => true,
        });
    }
    Ok(applied)
}

async fn raise_once(
    tx: &mut PgConnection,
    subscription: &str,
    highest: &BTreeMap<VersionScope<'_>, i64>,
) -> sqlx::Result<Vec<StoredVersion>> {
    let sources: Vec<_> = highest.keys().map(|counted| counted.source).collect();
    let subjects: Vec<_> = highest.keys().map(|counted| counted.subject).collect();
    let versions: Vec<_> = highest.values().copied().collect();
    sqlx::query_as(
        // Looks up each version in a subquery of its own, so that it uses the primary key even if
        // the plan was made while the tables were empty. A join might read all versions of the
        // subscription each time, until the tables are analysed. Subqueries also hide the lengths
        // of the arrays from the planner, which otherwise plans the statement for each message.
        "with wanted as (
             select source, subject, version,
                    coalesce((select known.version from inbox_version as known
                              where known.subscription = $1 and known.subject = wanted.subject), 0) as floor
             from unnest((select $2::text[]), (select $3::text[]), (select $4::bigint[]))
                 as wanted (source, subject, version)
         ), before as (
             select applied.source, applied.subject, applied.version
             from (select source, subject from wanted order by source, subject) as wanted
             cross join lateral (
                 select source, subject, version from applied_version as applied
                 where applied.subscription = $1 and applied.source = wanted.source
                   and applied.subject = wanted.subject
                 for update
             ) as applied
         ), written as (
             insert into applied_version as applied (subscription, source, subject, version)
             select $1, source, subject, greatest(wanted.version, floor)
             from wanted left join before using (source, subject)
             where before.version is null or before.version < wanted.version
             order by source, subject
             on conflict (subscription, source, subject) do update set version = excluded.version
                 -- A row that came meanwhile is only locked.
                 where (applied.source, applied.subject) in (select source, subject from before)
             returning source, subject
         )
         select source, subject, greatest(coalesce(before.version, 0), floor) as before,
                before.version is null and inserted is null as raced
         from wanted left join before using (source, subject)
         left join (select source, subject, true as inserted from written) as inserted using (source, subject)",
    )
    .bind(subscription)
    .bind(&sources)
    .bind(&subjects)
    .bind(&versions)
    .fetch_all(tx)
    .await
}
