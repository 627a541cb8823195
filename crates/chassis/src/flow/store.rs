use std::collections::BTreeSet;
use std::sync::Arc;

use pg::{AddressIn, address_pattern, contains_address};
use serde_json::{Map, Value};
use sqlx::{AssertSqlSafe, PgPool};
use telemetry::FlowSteps;
use tokio::sync::Mutex;

use super::ring::SLOTS;
use super::rows::key;
use super::timestamp::rfc3339_of_micros;

/// Maximum number of flows that are shown for an id.
const MAX_FLOWS: i64 = 20;
/// Maximum number of steps that are shown; the latest are cut.
const MAX_STEPS: usize = 2_000;
/// Maximum number of rows to search for an id, which may be that of a busy subject.
const SEARCHED: i64 = 5_000;
/// Maximum size of the rows that are read, in bytes; the latest are left out. A row has all steps
/// of a flow that were written together, and an import may be one flow.
const READ: i64 = 4 << 20;
/// Age up to which steps are shown. Older ones may still be stored.
const KEPT: &str = "1 day";
/// Size of the part of a slot that a statement of an erasure searches, in bytes on disk. No steps
/// are written meanwhile, and memory holds those of half a second.
const ERASED_AT_ONCE: i64 = 4 << 20;

/// Kind and name of the step of an event that waited in the outbox.
const OUTBOX_WAIT: &str = "outbox wait";
/// Members that the step of an event's wait and that of its publication have in common.
const OF_THE_EVENT: [&str; 8] = [
    "correlation_id",
    "instance",
    "topic",
    "event_type",
    "event_id",
    "source",
    "subject",
    "trace_id",
];

/// The steps of a service: in memory until they are written, then in its table. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct FlowStore {
    pub(crate) steps: FlowSteps,
    /// A separate pool, whose commits do not wait for the disk.
    pub(super) pool: PgPool,
    /// Id of the process.
    pub(super) instance: Arc<str>,
    /// Held while steps are moved from memory to the table.
    pub(super) writing: Arc<Mutex<()>>,
}

/// Flows that were found for an id.
#[derive(Debug, Default)]
pub(crate) struct FoundFlows {
    /// Most recently written first, of the rows that were searched.
    pub(crate) correlation_ids: Vec<String>,
    /// Oldest first.
    pub(crate) steps: Vec<Map<String, Value>>,
    /// `true` if there are more steps or flows.
    pub(crate) is_truncated: bool,
}

impl FoundFlows {
    /// Returns the distinct values of a member of the steps, at most 200.
    pub(crate) fn all(&self, member: &str) -> Vec<String> {
        let values = self.steps.iter().filter_map(|step| step.get(member)?.as_str());
        let values: BTreeSet<_> = values.collect();
        values.into_iter().take(200).map(str::to_owned).collect()
    }
}

impl FlowStore {
    /// Creates the store of a process. `pool` must not be used for anything else.
    pub(crate) fn new(steps: FlowSteps, pool: PgPool) -> Self {
        let instance = uuid::Uuid::now_v7().simple().to_string();
        Self { steps, pool, instance: instance.into(), writing: Arc::default() }
    }

    /// Finds the flows that have the id, or steps with that event id or subject. Reads with `pool`.
    pub(crate) async fn find(&self, pool: &PgPool, id: &str) -> sqlx::Result<FoundFlows> {
        let flows: Vec<(String, i64)> = sqlx::query_as(
            "select correlation_id, (sum(count(*)) over ())::int8 from (
                 select correlation_id, at from flow_step
                 where keys @> array[$1] and at > clock_timestamp() - $2::interval limit $3) found
             group by 1 order by max(at) desc limit $4",
        )
        .bind(key(id))
        .bind(KEPT)
        .bind(SEARCHED + 1)
        .bind(MAX_FLOWS + 1)
        .fetch_all(pool)
        .await?;
        let Some((_, searched)) = flows.first() else { return Ok(FoundFlows::default()) };
        let most = usize::try_from(MAX_FLOWS).unwrap_or(usize::MAX);
        let are_too_many = flows.len() > most || *searched > SEARCHED;
        let correlation_ids: Vec<_> = flows.into_iter().map(|(id, _)| id).take(most).collect();
        let rows: Vec<StepRow> = sqlx::query_as(
            "with searched as (
                 select correlation_id, instance, steps, at from flow_step
                 where keys && $1 and correlation_id = any($1) and at > clock_timestamp() - $2::interval
                 order by at limit $3),
             sized as (
                 select *, sum(octet_length(steps)) over (order by at rows unbounded preceding) as read,
                     count(*) over () as rows from searched)
             select correlation_id, instance, steps, rows from sized
             where read - octet_length(steps) < $4 order by at",
        )
        .bind(&correlation_ids)
        .bind(KEPT)
        .bind(SEARCHED)
        .bind(READ)
        .fetch_all(pool)
        .await?;
        let matching = rows.first().map_or(0, |row| row.rows);
        let are_all = i64::try_from(rows.len()).is_ok_and(|read| read == matching);
        let is_cut = are_too_many || !are_all || matching == SEARCHED;
        let found = in_order(correlation_ids, &rows);
        Ok(FoundFlows { is_truncated: found.is_truncated || is_cut, ..found })
    }

    /// Erases the rows and the unwritten steps that contain an e-mail address, ignoring case. Does
    /// not reach steps in the memory of other instances.
    ///
    /// Fails with the first error of a slot, after all others were erased.
    pub(crate) async fn erase(&self, address: &str) -> sqlx::Result<()> {
        self.erase_in_parts(address, ERASED_AT_ONCE).await
    }

    /// Erases an address with statements that search about as many bytes each.
    async fn erase_in_parts(&self, address: &str, bytes: i64) -> sqlx::Result<()> {
        let writing = self.writing.lock().await;
        self.steps.retain(|step| {
            ![&step.json, &step.correlation_id].iter().any(|it| contains_address(it, address))
        });
        drop(writing);
        let mut erased = Ok(());
        for slot in 0..SLOTS {
            let of_slot = self.erase_slot(slot, address, bytes).await;
            if let Err(error) = &of_slot {
                let error = error as &dyn std::error::Error;
                tracing::error!(error, slot, "flow steps of a slot not erased");
            }
            erased = erased.and(of_slot);
        }
        erased
    }

    /// Erases an address from a slot, some blocks at a time: a slot may be too large for one
    /// statement. Rows are never updated, so they stay in their blocks.
    async fn erase_slot(&self, slot: i16, address: &str, bytes: i64) -> sqlx::Result<()> {
        let pattern = address_pattern(address, AddressIn::Text);
        // Found much faster than the pattern, which is then matched against few rows.
        let domain = address.rsplit_once('@').map_or(address, |(_, domain)| domain);
        let (blocks, size) = self.size(slot).await?;
        // Large steps are stored outside of these blocks, and count as well.
        let at_once = (blocks * bytes / size.max(1)).max(1);
        let mut from = 0;
        while from < blocks {
            let end = from + at_once;
            let delete = format!(
                "delete from flow_step_{slot}
                 where ctid >= '({from},0)'::tid and ctid < '({end},0)'::tid
                   and (correlation_id ~* $1
                        or case when strpos(lower(steps), lower($2)) > 0 then steps ~* $1 end)"
            );
            let delete = sqlx::query(AssertSqlSafe(delete)).persistent(false);
            let delete = delete.bind(&pattern).bind(domain);
            // The pool has one connection, which the recorder would wait for in vain.
            let _writing = self.writing.lock().await;
            pg::bounded(delete.execute(&self.pool)).await?;
            from = end;
        }
        Ok(())
    }

    /// Returns the size of a slot: the number of its blocks, and its bytes, which include those of
    /// values that are stored outside of them.
    async fn size(&self, slot: i16) -> sqlx::Result<(i64, i64)> {
        let size = format!(
            "select pg_relation_size(slot) / current_setting('block_size')::int8,
                    pg_table_size(slot)
             from (select 'flow_step_{slot}'::regclass as slot) as it"
        );
        let size = sqlx::query_as(AssertSqlSafe(size)).persistent(false);
        let _writing = self.writing.lock().await;
        pg::bounded(size.fetch_one(&self.pool)).await
    }
}

/// A row of the table.
#[derive(Debug, Default, sqlx::FromRow)]
struct StepRow {
    correlation_id: String,
    instance: String,
    /// Steps as JSON, separated by commas.
    steps: String,
    /// Number of rows that match, including those that were not read.
    rows: i64,
}

fn in_order(correlation_ids: Vec<String>, rows: &[StepRow]) -> FoundFlows {
    let mut steps = Vec::new();
    for StepRow { correlation_id, instance, steps: stored, .. } in rows {
        let read = serde_json::from_str::<Vec<Map<String, Value>>>(&format!("[{stored}]"));
        // Rows hold only what this program wrote; an unreadable one must not hide the others.
        for mut step in read.unwrap_or_default() {
            step.insert("correlation_id".to_owned(), correlation_id.as_str().into());
            step.insert("instance".to_owned(), instance.as_str().into());
            steps.extend(outbox_wait(&mut step));
            steps.push(step);
        }
    }
    steps.sort_by_key(|step| step.get("at_us").and_then(Value::as_u64));
    let is_truncated = steps.len() > MAX_STEPS;
    steps.truncate(MAX_STEPS);
    for step in &mut steps {
        rename_time(step, "started_at");
        for attempt in step.get_mut("attempts").and_then(Value::as_array_mut).into_iter().flatten()
        {
            if let Value::Object(attempt) = attempt {
                rename_time(attempt, "at");
            }
        }
    }
    FoundFlows { correlation_ids, steps, is_truncated }
}

/// Takes an event's wait in the outbox from the step of its publication, as a step of its own.
fn outbox_wait(publication: &mut Map<String, Value>) -> Option<Map<String, Value>> {
    let Value::Object(mut wait) = publication.remove("outbox_wait")? else { return None };
    for member in OF_THE_EVENT {
        if let Some(value) = publication.get(member) {
            wait.insert(member.to_owned(), value.clone());
        }
    }
    wait.insert("kind".to_owned(), OUTBOX_WAIT.into());
    wait.insert("name".to_owned(), OUTBOX_WAIT.into());
    Some(wait)
}

/// Replaces the member `at_us` by a time in RFC 3339, with microseconds.
fn rename_time(object: &mut Map<String, Value>, name: &str) {
    let Some(micros) = object.remove("at_us").and_then(|it| it.as_i64()) else { return };
    if let Some(time) = rfc3339_of_micros(micros) {
        object.insert(name.to_owned(), time.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(steps: impl Into<String>) -> StepRow {
        let (correlation_id, instance) = ("flow".to_owned(), "one".to_owned());
        StepRow { correlation_id, instance, steps: steps.into(), rows: 1 }
    }

    #[tokio::test]
    async fn of_a_flow_with_large_rows_only_the_first_are_read() {
        let space = sandbox::testing::TestSpace::new().await;
        let pool = PgPool::connect(space.database_url()).await.expect("a database");
        let migration = include_str!("../../migrations/0003_flow_step.sql");
        sqlx::raw_sql(migration).execute(&pool).await.expect("a table");
        let size = usize::try_from(READ).expect("a size") / 4;
        let insert = "insert into flow_step (slot, at, correlation_id, instance, keys, steps)
             select 0, clock_timestamp() + n * interval '1 ms', 'import', 'i', array['import'],
                 format('{\"at_us\":%s,\"name\":\"%s\"}', n, repeat('x', $1)) from generate_series(1, $2) n";
        let store = FlowStore::new(FlowSteps::off(), pool.clone());
        for (rows, read, is_truncated) in [(3, 3, false), (5, 4, true)] {
            sqlx::raw_sql("truncate flow_step").execute(&pool).await.expect("no rows");
            let insert = sqlx::query(insert).bind(i32::try_from(size).expect("a size")).bind(rows);
            insert.execute(&pool).await.expect("rows");
            let found = store.find(&pool, "import").await.expect("a flow");
            assert_eq!((found.steps.len(), found.is_truncated), (read, is_truncated));
        }
    }

    #[tokio::test]
    async fn an_erasure_reaches_all_parts_of_a_slot() {
        let space = sandbox::testing::TestSpace::new().await;
        let pool = PgPool::connect(space.database_url()).await.expect("a database");
        let migration = include_str!("../../migrations/0003_flow_step.sql");
        sqlx::raw_sql(migration).execute(&pool).await.expect("a table");
        let rows = r#"
            insert into flow_step (slot, correlation_id, instance, keys, steps)
            select n % 2, n::text, 'i', array[n::text],
                format('{"to":"%s@Example.com","text":"%s"}',
                    case when n % 3 = 0 then 'Ada' else 'grace' end, repeat('x', 1000))
            from generate_series(1, 300) n;
            create table statement (slot text);
            create function counted() returns trigger language plpgsql as
                'begin insert into statement values (tg_table_name); return null; end';
            create trigger counted after delete on flow_step_0
                for each statement execute function counted();
            create trigger counted after delete on flow_step_1
                for each statement execute function counted()"#;
        sqlx::raw_sql(rows).execute(&pool).await.expect("rows");
        let store = FlowStore::new(FlowSteps::off(), pool.clone());
        store.erase_in_parts("ada@example.com", 1).await.expect("an erasure");
        let counts = "select (select count(*) from flow_step),
            (select count(*) from flow_step where steps ~* 'ada@'),
            (select count(*) from statement)";
        let (left, named, statements): (i64, i64, i64) =
            sqlx::query_as(counts).fetch_one(&pool).await.expect("counts");
        assert_eq!((left, named), (200, 0));
        assert!(statements > 20, "{statements} statements for 300 kB");
    }

    #[test]
    fn steps_are_shown_in_the_order_of_their_begin() {
        let rows = [
            row(r#"{"kind":"publish","at_us":1764120600123450,"duration_us":7}"#),
            row(
                r#"{"kind":"request","at_us":1764120600000000,"attempts":[{"attempt":1,"at_us":1}]}"#,
            ),
        ];
        let found = in_order(vec!["flow".to_owned()], &rows);
        let kinds: Vec<_> = found.steps.iter().map(|step| &step["kind"]).collect();
        assert_eq!(kinds, ["request", "publish"]);
        assert_eq!(found.steps[0]["started_at"], "2025-11-26T01:30:00.000000Z");
        assert_eq!(found.steps[0]["attempts"][0]["at"], "1970-01-01T00:00:00.000001Z");
        assert_eq!(found.steps[1]["started_at"], "2025-11-26T01:30:00.123450Z");
        assert_eq!(found.steps[1]["correlation_id"], "flow");
        assert_eq!(found.steps[1].get("at_us"), None);
    }

    #[test]
    fn the_wait_before_a_publication_is_a_step_of_its_own() {
        let publish = r#"{"kind":"publish","name":"send parcels","topic":"parcels","event_id":"e","offset":7,
            "at_us":9,"duration_us":2,"outbox_wait":{"at_us":1,"duration_us":8}}"#;
        let steps = in_order(Vec::new(), &[row(publish)]).steps;
        let [wait, publish] = &steps[..] else { panic!("{steps:?}") };
        assert_eq!((&wait["kind"], &wait["duration_us"]), (&"outbox wait".into(), &8.into()));
        assert_eq!(wait["started_at"], "1970-01-01T00:00:00.000001Z");
        for member in ["topic", "event_id", "correlation_id", "instance"] {
            assert_eq!(wait[member], publish[member]);
        }
        assert_eq!((wait.get("offset"), publish.get("outbox_wait")), (None, None));
    }

    #[test]
    fn a_flow_of_too_many_steps_is_cut_at_its_end() {
        let steps = (0..=MAX_STEPS).map(|n| format!(r#"{{"at_us":{n}}}"#));
        let found = in_order(Vec::new(), &[row(steps.collect::<Vec<_>>().join(","))]);
        assert_eq!((found.steps.len(), found.is_truncated), (MAX_STEPS, true));
        assert_eq!(found.steps[0]["started_at"], "1970-01-01T00:00:00.000000Z");
    }
}
