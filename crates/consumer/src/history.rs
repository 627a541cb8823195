//! Stores attempts as rows, and marks messages before their attempts if the previous instance
//! crashed, since one of its messages may have caused the crash.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use envelope::Envelope;
use kafka::{Reason, Record};
use sqlx::types::Json;
use sqlx::{PgExecutor, PgPool};
use tokio::sync::{Mutex, RwLockReadGuard, RwLockWriteGuard};

use crate::letters::{FailedAttempt, dead_from};
use crate::partitions::{Assignment, TopicPartition};
use crate::suspects::Suspects;

/// Earlier attempts of a subscription, by partition.
pub(crate) struct Histories {
    pool: PgPool,
    subscription: String,
    /// Identifies this process.
    instance: String,
    /// Number of messages of a partition that are marked after a crash.
    caution: usize,
    known: RwLock<HashMap<TopicPartition, (u64, Arc<History>)>>,
    loading: Mutex<()>,
    suspects: Suspects,
}

/// History of a partition before its assignment.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// By offset, with the time of the record: [`UNKNOWN`], or as in `attempt`.
    attempts: HashMap<i64, (i64, EarlierAttempts)>,
    /// Offsets and times of records that are dead letters.
    dead: HashSet<(i64, i64)>,
    caution: AtomicUsize,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct EarlierAttempts {
    pub(crate) times: u32,
    pub(crate) reason: Option<String>,
}

/// The time of a record that has none, and of rows of an earlier release.
const UNKNOWN: i64 = -1;

fn time_of(record: &Record) -> i64 {
    record.timestamp.unwrap_or(UNKNOWN)
}

impl History {
    /// Returns the attempts at a record, and not those at one in a former topic of that name.
    pub(crate) fn of(&self, record: &Record) -> EarlierAttempts {
        let known = self.attempts.get(&record.offset);
        let known = known.filter(|(at, _)| [UNKNOWN, time_of(record)].contains(at));
        known.map(|(_, attempts)| attempts.clone()).unwrap_or_default()
    }

    /// Returns whether a record was dead-lettered before.
    pub(crate) fn is_dead(&self, record: &Record) -> bool {
        // Most partitions have none.
        !self.dead.is_empty() && self.dead.contains(&(record.offset, time_of(record)))
    }

    /// Returns whether messages have to be marked before they are attempted.
    pub(crate) fn is_cautious(&self) -> bool {
        self.caution.load(Ordering::Relaxed) > 0
    }

    /// Counts a settled message: one suspect less.
    pub(crate) fn settled_one(&self) {
        let less = |caution: usize| caution.checked_sub(1);
        let _ = self.caution.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }
}

impl Histories {
    pub(crate) fn new(
        pool: PgPool,
        subscription: String,
        caution: usize,
        suspects: Suspects,
    ) -> Self {
        let instance = format!("{:032x}", fastrand::u128(..));
        let (known, loading) = (RwLock::default(), Mutex::default());
        Self { pool, subscription, instance, caution, known, loading, suspects }
    }

    /// Returns the id of this process.
    pub(crate) fn instance(&self) -> &str {
        &self.instance
    }

    /// Returns the history of an assigned partition, read once per assignment. Messages before
    /// `position` are finished.
    pub(crate) async fn of(&self, of: Assignment<'_>, position: i64) -> sqlx::Result<Arc<History>> {
        if let Some(known) = self.known(of) {
            return Ok(known);
        }
        let _one_at_a_time = self.loading.lock().await;
        if let Some(known) = self.known(of) {
            return Ok(known);
        }
        let history = Arc::new(pg::bounded(self.load(of.partition, position)).await?);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(of.partition.clone(), (of.epoch, Arc::clone(&history)));
        Ok(history)
    }

    /// Returns the history of an assigned partition if it was read before.
    pub(crate) fn known(&self, of: Assignment<'_>) -> Option<Arc<History>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let (epoch, history) = known.get(of.partition)?;
        (*epoch == of.epoch).then(|| Arc::clone(history))
    }

    async fn load(
        &self,
        (topic, partition): &TopicPartition,
        position: i64,
    ) -> sqlx::Result<History> {
        let (before, near_memory_limit) = self.instance_before(topic, *partition).await?;
        let ended_well = before.is_none_or(|before| before == self.instance);
        let was_killed_for_memory = !ended_well && near_memory_limit;
        // Before its row is replaced, so that a failure here is retried.
        if was_killed_for_memory {
            self.unmark(topic, *partition).await?;
        }
        sqlx::query(
            "insert into consuming (subscription, topic, partition, instance) values ($1, $2, $3, $4)
             on conflict (subscription, topic, partition) do update
                 set instance = excluded.instance, since = clock_timestamp()",
        )
        .bind(&self.subscription)
        .bind(topic)
        .bind(partition)
        .bind(&self.instance)
        .execute(&self.pool)
        .await?;
        let attempts: Vec<(i64, i64, i32, Option<String>)> = sqlx::query_as(
            r#"select "offset", "timestamp", attempts, reason from attempt
               where subscription = $1 and topic = $2 and partition = $3"#,
        )
        .bind(&self.subscription)
        .bind(topic)
        .bind(partition)
        .fetch_all(&self.pool)
        .await?;
        let attempts = attempts.into_iter().map(|(offset, at, times, reason)| {
            let times = u32::try_from(times).unwrap_or_default();
            (offset, (at, EarlierAttempts { times, reason }))
        });
        let attempts: HashMap<_, _> = attempts.collect();
        let caution = if was_killed_for_memory {
            tracing::warn!(
                topic,
                partition,
                "previous instance of the partition ended near its memory limit, blaming no message"
            );
            0
        } else if ended_well {
            0
        } else {
            tracing::warn!(
                topic,
                partition,
                "previous instance of the partition crashed, marking messages before their attempts"
            );
            self.caution
        };
        let dead = dead_from(&self.pool, &self.subscription, topic, *partition, position).await?;
        Ok(History { attempts, dead, caution: AtomicUsize::new(caution) })
    }

    /// Returns the instance that had the partition and did not release it cleanly, and whether it
    /// was near its memory limit.
    async fn instance_before(
        &self,
        topic: &str,
        partition: i32,
    ) -> sqlx::Result<(Option<String>, bool)> {
        let before: Option<(String, Option<bool>)> = sqlx::query_as(
            "select instance, near_memory_limit
             from consuming left join instance using (subscription, instance)
             where subscription = $1 and topic = $2 and partition = $3",
        )
        .bind(&self.subscription)
        .bind(topic)
        .bind(partition)
        .fetch_optional(&self.pool)
        .await?;
        let (instance, near_memory_limit) = before.unzip();
        Ok((instance, near_memory_limit.flatten().unwrap_or_default()))
    }

    /// Removes the marks of an instance that was killed for its memory.
    async fn unmark(&self, topic: &str, partition: i32) -> sqlx::Result<()> {
        for statement in [
            "delete from attempt
             where subscription = $1 and topic = $2 and partition = $3 and reason is null and attempts <= 1",
            "update attempt set attempts = attempts - 1, reason = 'an attempt that did not end'
             where subscription = $1 and topic = $2 and partition = $3 and reason is null",
        ] {
            let unmarked = sqlx::query(statement).bind(&self.subscription).bind(topic);
            unmarked.bind(partition).execute(&self.pool).await?;
        }
        Ok(())
    }

    /// Waits until no suspect runs, and blocks suspects while the guard lives.
    pub(crate) async fn shared(&self) -> RwLockReadGuard<'_, ()> {
        self.suspects.shared().await
    }

    /// Waits until no other marked message runs.
    pub(crate) async fn exclusive(&self) -> RwLockWriteGuard<'_, ()> {
        self.suspects.exclusive().await
    }

    /// Records the number of attempts at a message and the reason of the last failure. `None`
    /// records the beginning of an attempt. The stored number never decreases, since an instance
    /// that was frozen may know of fewer attempts; a row of a former topic's message is replaced.
    pub(crate) async fn note(
        &self,
        record: &Record,
        times: u32,
        reason: Option<&Reason>,
        event: Option<&Envelope>,
    ) -> sqlx::Result<()> {
        let failures: Vec<_> = reason.iter().map(|it| FailedAttempt::new(it, None)).collect();
        let noted = sqlx::query(
            r#"insert into attempt as it (subscription, topic, partition, "offset", attempts, reason, failures, event_id,
                   subject, correlation_id, "timestamp")
               values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
               on conflict (subscription, topic, partition, "offset") do update
                   set attempts = case when it."timestamp" in (-1, excluded."timestamp")
                           then greatest(it.attempts, excluded.attempts) else excluded.attempts end,
                       failures = case when it."timestamp" in (-1, excluded."timestamp")
                           then it.failures || excluded.failures else excluded.failures end,
                       reason = excluded.reason, "timestamp" = excluded."timestamp", last_at = clock_timestamp(),
                       event_id = excluded.event_id, subject = excluded.subject,
                       correlation_id = excluded.correlation_id"#,
        )
        .bind(&self.subscription)
        .bind(&record.topic)
        .bind(record.partition)
        .bind(record.offset)
        .bind(i32::try_from(times).unwrap_or(i32::MAX))
        .bind(reason.map(|it| &*it.message))
        .bind(Json(failures))
        .bind(event.map(|it| it.id.as_str()))
        .bind(event.and_then(|it| it.subject.as_deref()))
        .bind(event.map(|it| it.correlation_id.as_str()))
        .bind(time_of(record))
        .execute(&self.pool);
        pg::bounded(noted).await?;
        Ok(())
    }

    /// Records that a first attempt at all these messages together begins.
    pub(crate) async fn mark(&self, records: &[&Record]) -> sqlx::Result<()> {
        let (topics, partitions, offsets) = coordinates(records);
        let times: Vec<_> = records.iter().map(|record| time_of(record)).collect();
        let marked = sqlx::query(
            r#"insert into attempt as it (subscription, topic, partition, "offset", "timestamp", attempts)
               select $1, *, 1 from unnest($2::text[], $3::integer[], $4::bigint[], $5::bigint[])
               on conflict (subscription, topic, partition, "offset") do update
                   set attempts = 1, reason = null, failures = '[]', "timestamp" = excluded."timestamp",
                       last_at = clock_timestamp(), event_id = null, subject = null, correlation_id = null
                   where it."timestamp" not in (-1, excluded."timestamp")"#,
        )
        .bind(&self.subscription)
        .bind(topics)
        .bind(partitions)
        .bind(offsets)
        .bind(times)
        .execute(&self.pool);
        pg::bounded(marked).await?;
        Ok(())
    }

    /// Removes the marks of attempts that ended and do not count, given the attempts that counted
    /// before. A mark that another instance has written meanwhile stays.
    pub(crate) async fn take_back(&self, marked: &[(&Record, u32)], why: &str) -> sqlx::Result<()> {
        if marked.is_empty() {
            return Ok(());
        }
        let records: Vec<_> = marked.iter().map(|it| it.0).collect();
        let (topics, partitions, offsets) = coordinates(&records);
        let before = marked.iter().map(|it| i32::try_from(it.1).unwrap_or(i32::MAX));
        let before: Vec<_> = before.collect();
        let taken_back = sqlx::query(
            r#"with marked as (
                   select * from unnest($2::text[], $3::integer[], $4::bigint[], $5::integer[])
                       as marked (topic, partition, "offset", before)),
                   unknown_before as (
                       delete from attempt it using marked
                       where subscription = $1 and it.topic = marked.topic and it.partition = marked.partition
                         and it."offset" = marked."offset" and marked.before = 0
                         and it.attempts = 1 and it.reason is null)
               update attempt it set attempts = marked.before, reason = $6 from marked
               where subscription = $1 and it.topic = marked.topic and it.partition = marked.partition
                 and it."offset" = marked."offset" and marked.before > 0
                 and it.attempts = marked.before + 1 and it.reason is null"#,
        )
        .bind(&self.subscription)
        .bind(topics)
        .bind(partitions)
        .bind(offsets)
        .bind(before)
        .bind(why)
        .execute(&self.pool);
        pg::bounded(taken_back).await?;
        Ok(())
    }

    /// Records that this instance released partitions cleanly.
    pub(crate) async fn left(&self, partitions: &[TopicPartition]) -> sqlx::Result<()> {
        let (topics, numbers): (Vec<&str>, Vec<i32>) =
            partitions.iter().map(|(topic, partition)| (topic.as_str(), *partition)).unzip();
        let left = sqlx::query(
            "delete from consuming
             where subscription = $1 and instance = $2
               and (topic, partition) in (select * from unnest($3::text[], $4::integer[]))",
        )
        .bind(&self.subscription)
        .bind(&self.instance)
        .bind(&topics)
        .bind(&numbers)
        .execute(&self.pool);
        pg::bounded(left).await?;
        Ok(())
    }

    /// Records that this instance released all partitions cleanly.
    pub(crate) async fn left_all(&self) -> sqlx::Result<()> {
        let left = sqlx::query("delete from consuming where subscription = $1 and instance = $2")
            .bind(&self.subscription)
            .bind(&self.instance)
            .execute(&self.pool);
        pg::bounded(left).await?;
        Ok(())
    }
}

fn coordinates<'a>(records: &[&'a Record]) -> (Vec<&'a str>, Vec<i32>, Vec<i64>) {
    let of = |record: &&'a Record| (record.topic.as_str(), record.partition, record.offset);
    records.iter().map(of).collect()
}

/// Deletes the attempts at messages, in the transaction that applies them.
pub(crate) async fn forget(
    executor: impl PgExecutor<'_>,
    subscription: &str,
    records: &[&Record],
) -> sqlx::Result<()> {
    let (topics, partitions, offsets) = coordinates(records);
    sqlx::query(
        r#"delete from attempt
           where subscription = $1
             and (topic, partition, "offset") in
                 (select * from unnest($2::text[], $3::integer[], $4::bigint[]))"#,
    )
    .bind(subscription)
    .bind(topics)
    .bind(partitions)
    .bind(offsets)
    .execute(executor)
    .await?;
    Ok(())
}
