//! The statements that read the outbox. Each deletes what Kafka has on its way, which saves a round trip.

use std::collections::BTreeSet;

use sqlx::PgConnection;
use sqlx::postgres::PgRow;
use sqlx::{FromRow, Row as _};

use crate::in_flight::OVERHEAD;
use crate::row::columns;

/// Most rows of a statement.
const ROWS: usize = 1000;
/// And of a lane, at least.
const ROWS_OF_A_LANE: usize = 8;
/// Most bytes of a statement, except for one row that is larger.
const BYTES: usize = 1024 * 1024;

/// A part of the outbox that is read in the order of its ids: a topic in a shard, from an id on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LaneStart<'a> {
    pub(crate) shard: i16,
    pub(crate) topic: &'a str,
    pub(crate) after: i64,
}

/// The first row of a lane.
#[derive(FromRow)]
pub(crate) struct LaneHead {
    pub(crate) shard: i16,
    pub(crate) topic: String,
    pub(crate) id: i64,
    pub(crate) key: String,
}

/// What a statement read.
pub(crate) struct LaneRows {
    pub(crate) rows: Vec<PgRow>,
    /// For each lane, the id up to which it was read. `None`: to its end.
    pub(crate) covered: Vec<Option<i64>>,
}

/// Returns rows above `after` of these shards, by id, except for some topics and ids. It is one lane.
///
/// `order by` makes the plan use the primary key: new rows lie side by side there.
pub(crate) async fn new_rows(
    session: &mut PgConnection,
    published: &[i64],
    after: i64,
    shards: &[i16],
    except: (&[String], &[i64]),
    free: usize,
) -> sqlx::Result<LaneRows> {
    let budget = budget(free);
    let rows = sqlx::query(concat!(
        "with gone as (delete from outbox where id = any($1))
         select ",
        columns!(),
        ", 1::int8, before + size
         from (select *, sum(size) over (order by id rows unbounded preceding) - size as before
               from (select *, octet_length(payload) + $8::int4 as size from outbox
                     where id > $2 and shard = any($3) and topic <> all($4)
                       and id not in (select unnest($5::bigint[])) -- hashed once
                     order by id limit $6) waiting) measured
         where before < $7
         order by id",
    ))
    .bind(published)
    .bind(after)
    .bind(shards)
    .bind(except.0)
    .bind(except.1)
    .bind(bound(ROWS))
    .bind(bound(budget))
    .bind(i32::try_from(OVERHEAD).unwrap_or_default())
    .fetch_all(session)
    .await?;
    LaneRows::of(rows, &[after], ROWS, budget)
}

/// Returns rows of lanes, lane after lane, each by id, except for some ids.
///
/// `order by` makes the plan use the index by lane: no row of another lane is touched.
pub(crate) async fn lanes(
    session: &mut PgConnection,
    published: &[i64],
    lanes: &[LaneStart<'_>],
    except: &[i64],
    free: usize,
) -> sqlx::Result<LaneRows> {
    let (budget, rows) = (budget(free), (ROWS / lanes.len().max(1)).max(ROWS_OF_A_LANE));
    let shards: Vec<_> = lanes.iter().map(|lane| lane.shard).collect();
    let topics: Vec<_> = lanes.iter().map(|lane| lane.topic).collect();
    let after: Vec<_> = lanes.iter().map(|lane| lane.after).collect();
    let read = sqlx::query(concat!(
        "with gone as (delete from outbox where id = any($1))
         select ", columns!(), ", place, before + size
         from (select *, sum(size) over (order by place, id rows unbounded preceding) - size as before
               from (select waiting.*, lane.place
                     from unnest($2::smallint[], $3::text[], $4::bigint[])
                          with ordinality as lane (shard, topic, after, place)
                     cross join lateral (
                         select *, octet_length(payload) + $8::int4 as size from outbox
                         where outbox.shard = lane.shard and outbox.topic = lane.topic and outbox.id > lane.after
                           and id not in (select unnest($5::bigint[]))
                         order by shard, topic, id limit $6) waiting) placed) measured
         where before < $7
         order by place, id",
    ))
    .bind(published)
    .bind(shards)
    .bind(topics)
    .bind(&after)
    .bind(except)
    .bind(bound(rows))
    .bind(bound(budget))
    .bind(i32::try_from(OVERHEAD).unwrap_or_default())
    .fetch_all(session)
    .await?;
    LaneRows::of(read, &after, rows, budget)
}

/// Returns the first row of each lane of these shards that is none of `except`. It jumps from lane to lane, however many rows they have.
pub(crate) async fn heads(
    session: &mut PgConnection,
    shards: &[i16],
    except: &[i64],
) -> sqlx::Result<Vec<LaneHead>> {
    sqlx::query_as(
        "with recursive head as (
             select first.* from unnest($1::smallint[]) owned (shard)
             cross join lateral (
                 select shard, topic, id, key from outbox where outbox.shard = owned.shard
                   and id not in (select unnest($2::bigint[]))
                 order by shard, topic, id limit 1) first
             union all
             select next.* from head
             cross join lateral (
                 select shard, topic, id, key from outbox where outbox.shard = head.shard and outbox.topic > head.topic
                   and id not in (select unnest($2::bigint[]))
                 order by shard, topic, id limit 1) next)
         select shard, topic, id, key from head",
    )
    .bind(shards)
    .bind(except)
    .fetch_all(session)
    .await
}

/// Deletes rows that Kafka has.
pub(crate) async fn delete(session: &mut PgConnection, published: &[i64]) -> sqlx::Result<()> {
    sqlx::query("delete from outbox where id = any($1)").bind(published).execute(session).await?;
    Ok(())
}

impl LaneRows {
    fn of(rows: Vec<PgRow>, after: &[i64], most: usize, budget: usize) -> sqlx::Result<Self> {
        let mut counts = vec![0; after.len()];
        let mut last = vec![None; after.len()];
        let mut bytes = 0;
        let mut last_lane = 0;
        for row in &rows {
            let lane = usize::try_from(row.try_get::<i64, _>(7)? - 1).unwrap_or_default();
            last_lane = lane.min(after.len() - 1);
            counts[last_lane] += 1;
            last[last_lane] = Some(row.try_get::<i64, _>(0)?);
            bytes = usize::try_from(row.try_get::<i64, _>(8)?).unwrap_or_default();
        }
        let is_cut = bytes >= budget;
        let covered = (0..after.len()).map(|lane| {
            if is_cut && lane > last_lane {
                Some(after[lane])
            } else if counts[lane] >= most || (is_cut && lane == last_lane) {
                last[lane].or(Some(after[lane]))
            } else {
                None
            }
        });
        let covered = covered.collect();
        Ok(Self { rows, covered })
    }

    /// Returns the place of a row's lane.
    pub(crate) fn lane(row: &PgRow) -> sqlx::Result<usize> {
        Ok(usize::try_from(row.try_get::<i64, _>(7)? - 1).unwrap_or_default())
    }
}

/// Ids that are not to be read again, in the form that statements take.
pub(crate) fn except(ids: impl Iterator<Item = i64>, published: &[i64], after: i64) -> Vec<i64> {
    // The snapshot of the statement still has what it deletes.
    ids.chain(published.iter().copied().filter(|id| *id > after))
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect()
}

fn budget(free: usize) -> usize {
    free.min(BYTES)
}

fn bound(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
