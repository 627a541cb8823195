//! The statements that read the outbox. Each also deletes published rows, which saves a round trip.

use futures::TryStreamExt;
use sqlx::postgres::{PgConnectOptions, PgRow};
use sqlx::{ConnectOptions, FromRow, PgConnection, Row as _};

use crate::in_flight::OVERHEAD;
use crate::row::columns;

/// Maximum rows of a statement.
const ROWS: usize = 1000;
/// Rows that a statement reads beyond those that fit, if they are as large as the previous ones.
const MORE: usize = 16;
/// Minimum rows of a lane in a statement.
const ROWS_OF_A_LANE: usize = 8;
/// Maximum bytes of a statement, unless a single row is larger.
const BYTES: usize = 1024 * 1024;

/// Planner settings: the table's statistics are always wrong, since it is empty or holds a backlog.
/// The settings force reads in the order of an index.
const PLANS: [(&str, &str); 5] = [
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_bitmapscan", "off"),
    ("enable_sort", "off"),
    ("jit", "off"),
];

/// A statement that also deletes the published rows in `$1`. With none, it takes no write lock,
/// because the table may be locked, for example to build an index.
macro_rules! deleting {
    ($published:expr, $($sql:expr),*) => {
        if $published.is_empty() {
            concat!("with nothing as (select $1::bigint[]) ", $($sql),*)
        } else {
            concat!("with gone as (delete from outbox where id = any($1)) ", $($sql),*)
        }
    };
}

/// Selection of the new rows to read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewRows<'a> {
    /// Published rows to delete.
    pub(crate) published: &'a [i64],
    pub(crate) after: i64,
    pub(crate) shards: &'a [i16],
    pub(crate) except_topics: &'a [String],
    pub(crate) except_ids: &'a [i64],
    /// Free bytes for them.
    pub(crate) free: usize,
    /// Average size of the rows read before, in bytes. A row beyond the free bytes is read in vain.
    pub(crate) size: usize,
}

/// A part of the outbox that is read in the order of ids: a topic in a shard, from an id on.
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

/// Rows that a statement has read.
pub(crate) struct LaneRows {
    pub(crate) rows: Vec<PgRow>,
    /// For each lane, the id up to which it was read. `None` if it was read to its end.
    pub(crate) covered: Vec<Option<i64>>,
    /// Their average size in bytes, or `None` without rows.
    pub(crate) size: Option<usize>,
}

/// Opens a connection for the statements of this module.
pub(crate) async fn connect(
    options: &PgConnectOptions,
    settings: &[(&'static str, &str)],
) -> sqlx::Result<PgConnection> {
    let mut session = options.connect().await?;
    let settings = settings.iter().chain(&PLANS).map(|(name, value)| (*name, (*value).to_owned()));
    pg::set_in_session(&mut session, &settings.collect::<Vec<_>>()).await?;
    // Cancels the statement of a client that is gone. Servers on some platforms do not support
    // this.
    let check = sqlx::raw_sql("set client_connection_check_interval = '1s'");
    match check.execute(&mut session).await {
        Ok(_) | Err(sqlx::Error::Database(_)) => Ok(session),
        Err(error) => Err(error),
    }
}

/// Returns rows above an id, by id, except for some topics and ids, as one lane. `each` gets every
/// row when it arrives, while the server still reads the next ones.
///
/// `order by` makes the plan use the primary key, in which new rows are adjacent.
pub(crate) async fn new_rows(
    session: &mut PgConnection,
    wanted: NewRows<'_>,
    mut each: impl FnMut(&PgRow) -> sqlx::Result<()>,
) -> sqlx::Result<LaneRows> {
    let budget = budget(wanted.free);
    let most = (budget / wanted.size.max(1) + MORE).min(ROWS);
    let sql = deleting!(
        wanted.published,
        "select ",
        columns!(),
        ", 1::int8, before + size
         from (select *, sum(size) over (order by id rows unbounded preceding) - size as before
               from (select *, octet_length(payload) + $8::int4 as size from outbox
                     where id > $2 and shard = any($3) and topic <> all($4)
                       and id not in (select unnest($5::bigint[])) -- hashed once
                     order by id limit $6) waiting) measured
         where before < $7
         order by id"
    );
    let mut arriving = sqlx::query(sql)
        .bind(wanted.published)
        .bind(wanted.after)
        .bind(wanted.shards)
        .bind(wanted.except_topics)
        .bind(wanted.except_ids)
        .bind(bound(most))
        .bind(bound(budget))
        .bind(i32::try_from(OVERHEAD).unwrap_or_default())
        .fetch(session);
    let mut rows = Vec::new();
    while let Some(row) = arriving.try_next().await? {
        each(&row)?;
        rows.push(row);
    }
    LaneRows::of(rows, &[wanted.after], most, budget)
}

/// Returns rows of lanes, lane after lane, each by id, except for some ids.
///
/// `order by` makes the plan use the index by lane, so that no row of another lane is read.
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
    let sql = deleting!(
        published,
        "select ",
        columns!(),
        ", place, before + size
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
         order by place, id"
    );
    let read = sqlx::query(sql)
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

/// Returns the first row of each lane of these shards, without those in `except`. The query jumps
/// from lane to lane, regardless of the number of rows.
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

/// Deletes published rows.
pub(crate) async fn delete(session: &mut PgConnection, published: &[i64]) -> sqlx::Result<()> {
    sqlx::query("delete from outbox where id = any($1)").bind(published).execute(session).await?;
    Ok(())
}

/// Deletes the rows that are not locked. Returns the ids of the others.
pub(crate) async fn delete_unlocked(
    session: &mut PgConnection,
    published: &[i64],
) -> sqlx::Result<Vec<i64>> {
    sqlx::query_scalar(
        "with gone as (
             delete from outbox where id in (
                 select id from outbox where id = any($1) for update skip locked)
             returning id)
         select id from outbox where id = any($1) and id not in (select id from gone)",
    )
    .bind(published)
    .fetch_all(session)
    .await
}

/// Returns the ids whose rows exist.
pub(crate) async fn existing(session: &mut PgConnection, ids: &[i64]) -> sqlx::Result<Vec<i64>> {
    sqlx::query_scalar("select id from outbox where id = any($1)")
        .bind(ids)
        .fetch_all(session)
        .await
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
        let size = bytes.checked_div(rows.len());
        Ok(Self { rows, covered, size })
    }

    /// Returns the index of a row's lane.
    pub(crate) fn lane(row: &PgRow) -> sqlx::Result<usize> {
        Ok(usize::try_from(row.try_get::<i64, _>(7)? - 1).unwrap_or_default())
    }
}

fn budget(free: usize) -> usize {
    free.min(BYTES)
}

fn bound(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
