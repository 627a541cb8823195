//! The shards that this instance publishes: advisory locks of one session, which end with the
//! session.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection};

use crate::prepared::SHARDS;
use crate::scan;

/// "outb": the class of the advisory locks of relays up to version 0.1, for every table. The class
/// of later ones is this and the table's oid, so that two schemas of a database do not share locks.
/// No oid is 0, so the two differ.
const FORMER_CLASS: i32 = 0x6f75_7462;
/// Second key of the lock that every relay shares, by which relays are counted.
const MEMBER: i32 = -1;

/// Interval at which ownership is confirmed and balanced.
const TICK: Duration = Duration::from_secs(1);
/// How long no shard with records in flight is given up, after one was not drained in time.
const KEPT: Duration = Duration::from_secs(30);

/// Limits on the server, and planner settings. Postgres ends a session that is silent for longer,
/// with its locks, so that a frozen relay can't keep its shards.
const SETTINGS: [(&str, &str); 5] = [
    ("idle_session_timeout", "5s"),
    // A session that sends to a frozen relay is not idle. Linux only; elsewhere it has no effect.
    ("tcp_user_timeout", "5s"),
    ("statement_timeout", "10s"),
    // A row to delete, or the table, may be locked; the relay does not wait for either.
    ("lock_timeout", "100ms"),
    // If a crash of Postgres loses a delete, the event is published twice, which inboxes recognise.
    ("synchronous_commit", "off"),
];

/// A Postgres session and the shards that it has locked. All statements of a relay use it: when it
/// is lost, so is the right to publish.
pub(crate) struct Shards {
    session: PgConnection,
    class: i32,
    owned: Vec<i16>,
    /// Newly taken shards, whose waiting rows are unknown.
    fresh: Vec<i16>,
    leaving: Vec<LeavingShard>,
    /// Time before which no shard with records in flight is given up.
    kept_until: Instant,
    /// `true` while relays of an earlier release run. This relay then takes the locks of their
    /// class as well.
    with_former: bool,
    /// The shards whose lock of the former class is held.
    former: BTreeSet<i16>,
    next_tick: Instant,
}

/// Records in flight of a shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ShardLoad {
    Idle,
    Draining,
    /// Some, which may not complete for long.
    Stuck,
}

/// A shard to give up once no record of it is in flight. It is not read meanwhile.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LeavingShard {
    pub(crate) shard: i16,
    since: Instant,
    /// Every row of it up to this id is gone, in flight or left aside. Not so for a shard that was
    /// never searched, which is given up at once.
    pub(crate) after: i64,
}

impl Shards {
    /// Opens a session without shards, which other relays do not count yet.
    pub(crate) async fn open(options: &PgConnectOptions) -> sqlx::Result<Self> {
        let mut session = scan::connect(options, &SETTINGS).await?;
        let table: i64 = sqlx::query_scalar("select 'outbox'::regclass::oid::int8")
            .fetch_one(&mut session)
            .await?;
        let table = u32::try_from(table).unwrap_or_default();
        let now = Instant::now();
        Ok(Self {
            session,
            class: FORMER_CLASS ^ table.cast_signed(),
            owned: Vec::new(),
            fresh: Vec::new(),
            leaving: Vec::new(),
            kept_until: now,
            with_former: false,
            former: BTreeSet::new(),
            next_tick: now,
        })
    }

    /// Joins the relays, which leave it a share of the shards from now on.
    pub(crate) async fn join(&mut self) -> sqlx::Result<()> {
        self.execute("select pg_advisory_lock_shared($1, $2)", self.class, MEMBER).await
    }

    #[cfg(test)]
    pub(crate) async fn connect(options: &PgConnectOptions) -> sqlx::Result<Self> {
        let mut shards = Self::open(options).await?;
        shards.join().await?;
        Ok(shards)
    }

    /// Returns why published rows can't be deleted, if they can't. They would be published again
    /// and again.
    pub(crate) async fn why_rows_would_stay(&mut self) -> sqlx::Result<Option<String>> {
        sqlx::query_scalar(
            "select case when pg_is_in_recovery() then 'the server is a standby'
                         when current_setting('transaction_read_only')::bool then 'the database is read-only'
                         when not has_table_privilege('outbox', 'delete') then 'the role may not delete them'
                    end",
        )
        .fetch_one(&mut self.session)
        .await
    }

    pub(crate) fn session(&mut self) -> &mut PgConnection {
        &mut self.session
    }

    /// Returns the shards whose rows may be read.
    pub(crate) fn owned(&self) -> &[i16] {
        &self.owned
    }

    /// Returns newly taken shards, which must be searched before they are read.
    pub(crate) fn fresh(&self) -> &[i16] {
        &self.fresh
    }

    /// Records that these shards were searched. Returns those that are still owned, which may be
    /// read from now on.
    pub(crate) fn admit(&mut self, shards: &[i16]) -> Vec<i16> {
        let admitted: Vec<_> = self.fresh.extract_if(.., |shard| shards.contains(shard)).collect();
        self.owned.extend(&admitted);
        admitted
    }

    /// Returns the locked shards, which no other relay publishes.
    pub(crate) fn held(&self) -> BTreeSet<i16> {
        let leaving = self.leaving.iter().map(|leaving| leaving.shard);
        self.owned.iter().chain(&self.fresh).copied().chain(leaving).collect()
    }

    /// Returns whether this shard is locked, so that no other relay publishes it.
    pub(crate) fn holds(&self, shard: i16) -> bool {
        self.held().contains(&shard)
    }

    /// Returns whether all shards that are held may be read.
    pub(crate) fn are_settled(&self) -> bool {
        self.fresh.is_empty() && self.leaving.is_empty()
    }

    /// Returns the id up to which the rows of a shard to give up are accounted for.
    pub(crate) fn left_at(&self, shard: i16) -> Option<i64> {
        let leaving = self.leaving.iter().find(|leaving| leaving.shard == shard);
        leaving.map(|leaving| leaving.after)
    }

    /// Returns the time at which [`Shards::share`] is due.
    pub(crate) fn next_tick(&self) -> Instant {
        self.next_tick
    }

    /// Takes or gives up shards to balance them among relays. Rows of owned shards up to `after`
    /// are accounted for.
    ///
    /// A shard with records in flight is given up at the next tick if these have completed. A stuck
    /// shard is kept, since no other relay may publish it. Returns the shards that are owned again.
    ///
    /// Fails if the session is lost, and with it the shards.
    pub(crate) async fn share(
        &mut self,
        after: i64,
        load: impl Fn(i16) -> ShardLoad,
    ) -> sqlx::Result<Vec<LeavingShard>> {
        let now = Instant::now();
        self.next_tick = now + TICK;
        let (relays, former) = self.count().await?;
        self.adapt_to_former(former > 0, after, now).await?;
        let relays = u16::try_from((relays + former).max(1)).unwrap_or(u16::MAX);
        let fair_share = usize::from(SHARDS.unsigned_abs().div_ceil(relays));
        while self.owned.len() + self.fresh.len() > fair_share
            && let Some(shard) = self.surplus(&load, now)
        {
            self.leaving.push(LeavingShard { shard, since: now, after });
        }
        let kept = self.leave(load, now).await?;
        self.take(fair_share).await?;
        Ok(kept)
    }

    /// Removes a shard that is given up. One that is idle can be given up at once.
    fn surplus(&mut self, load: impl Fn(i16) -> ShardLoad, now: Instant) -> Option<i16> {
        if let Some(shard) = self.fresh.pop() {
            return Some(shard);
        }
        let with = |wanted| self.owned.iter().rposition(|shard| load(*shard) == wanted);
        let draining = || with(ShardLoad::Draining).filter(|_| now >= self.kept_until);
        let index = with(ShardLoad::Idle).or_else(draining)?;
        Some(self.owned.remove(index))
    }

    /// Counts the relays of this table, and those of the former class.
    async fn count(&mut self) -> sqlx::Result<(i64, i64)> {
        sqlx::query_as(
            "with member as (
                 select pid, classid::int8 as class from pg_locks
                 where locktype = 'advisory' and granted and objsubid = 2 and objid::int8 = $3::int8 & 4294967295
                   and database = (select oid from pg_database where datname = current_database()))
             select count(*) filter (where class = $1::int8 & 4294967295),
                    -- Relays of other schemas take these locks too, and are none of the former class.
                    count(*) filter (where class = $2::int8 & 4294967295
                        and pid not in (select pid from member where class <> $2::int8 & 4294967295))
             from member",
        )
        .bind(i64::from(self.class))
        .bind(i64::from(FORMER_CLASS))
        .bind(i64::from(MEMBER))
        .fetch_one(&mut self.session)
        .await
    }

    /// Acquires the locks of the former class, too, while such a relay runs. That relay then counts
    /// this one, leaves it a share, and does not publish its shards.
    async fn adapt_to_former(
        &mut self,
        is_there: bool,
        after: i64,
        since: Instant,
    ) -> sqlx::Result<()> {
        let was_there = std::mem::replace(&mut self.with_former, is_there);
        if is_there && !was_there {
            self.execute("select pg_advisory_lock_shared($1, $2)", FORMER_CLASS, MEMBER).await?;
            for shard in std::mem::take(&mut self.owned) {
                if self.lock_former(shard).await? {
                    self.owned.push(shard);
                } else {
                    self.leaving.push(LeavingShard { shard, since, after });
                }
            }
            // They are taken again once their locks are free.
            let fresh = std::mem::take(&mut self.fresh).into_iter();
            self.leaving.extend(fresh.map(|shard| LeavingShard { shard, since, after }));
        } else if !is_there && was_there {
            self.execute("select pg_advisory_unlock_shared($1, $2)", FORMER_CLASS, MEMBER).await?;
            for shard in std::mem::take(&mut self.former) {
                self.unlock(FORMER_CLASS, shard).await?;
            }
        }
        Ok(())
    }

    /// Gives up idle shards that are to be given up. Returns those that are kept instead.
    async fn leave(
        &mut self,
        load: impl Fn(i16) -> ShardLoad,
        now: Instant,
    ) -> sqlx::Result<Vec<LeavingShard>> {
        let mut kept = Vec::new();
        for leaving in std::mem::take(&mut self.leaving) {
            let shard = leaving.shard;
            if load(shard) == ShardLoad::Idle {
                if self.former.remove(&shard) {
                    self.unlock(FORMER_CLASS, shard).await?;
                }
                self.unlock(self.class, shard).await?;
            } else if now - leaving.since >= TICK && self.lock_former(shard).await? {
                self.owned.push(shard);
                self.kept_until = now + KEPT;
                kept.push(leaving);
            } else {
                self.leaving.push(leaving);
            }
        }
        Ok(kept)
    }

    /// Returns whether no relay of the former class publishes this shard, and none will.
    async fn lock_former(&mut self, shard: i16) -> sqlx::Result<bool> {
        if !self.with_former || self.former.contains(&shard) {
            return Ok(true);
        }
        let is_locked = self.try_lock(FORMER_CLASS, shard).await?;
        if is_locked {
            self.former.insert(shard);
        }
        Ok(is_locked)
    }

    async fn take(&mut self, fair_share: usize) -> sqlx::Result<()> {
        for shard in 0..SHARDS {
            if self.owned.len() + self.fresh.len() + self.leaving.len() >= fair_share {
                break;
            }
            if self.holds(shard) || !self.try_lock(self.class, shard).await? {
                continue;
            }
            if self.lock_former(shard).await? {
                self.fresh.push(shard);
            } else {
                self.unlock(self.class, shard).await?;
            }
        }
        Ok(())
    }

    async fn try_lock(&mut self, class: i32, shard: i16) -> sqlx::Result<bool> {
        let locked = sqlx::query_scalar("select pg_try_advisory_lock($1, $2)");
        locked.bind(class).bind(i32::from(shard)).fetch_one(&mut self.session).await
    }

    async fn unlock(&mut self, class: i32, shard: i16) -> sqlx::Result<()> {
        self.execute("select pg_advisory_unlock($1, $2)", class, shard.into()).await
    }

    async fn execute(&mut self, sql: &'static str, class: i32, key: i32) -> sqlx::Result<()> {
        sqlx::query(sql).bind(class).bind(key).execute(&mut self.session).await?;
        Ok(())
    }

    /// Closes the session, so that other relays can take the shards at once.
    pub(crate) async fn release(self) {
        if let Err(error) = self.session.close().await {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "relay session not closed cleanly"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use sandbox::testing::{TestSpace, eventually};
    use sqlx::PgPool;

    use super::*;

    /// Shards of a relay that has searched the shards that it took.
    impl Shards {
        async fn shared(&mut self, load: impl Fn(i16) -> ShardLoad) -> usize {
            self.share(7, load).await.unwrap();
            let fresh = self.fresh.clone();
            self.admit(&fresh).len()
        }

        fn a_tick_goes_by(&mut self) {
            self.leaving.iter_mut().for_each(|leaving| leaving.since -= TICK);
        }
    }

    async fn database(space: &TestSpace) -> PgConnectOptions {
        let pool = PgPool::connect(space.database_url()).await.unwrap();
        crate::migrate(&pool).await.unwrap();
        space.database_url().parse().unwrap()
    }

    #[tokio::test]
    async fn a_shard_changes_hands_when_nothing_of_it_is_under_way() {
        let space = TestSpace::new().await;
        let options = database(&space).await;
        let mut first = Shards::connect(&options).await.unwrap();
        assert_eq!(first.shared(|_| ShardLoad::Idle).await, 16);

        let mut second = Shards::connect(&options).await.unwrap();
        first.shared(|_| ShardLoad::Draining).await;
        assert_eq!(first.owned().len(), 8, "nothing more is read of the others");
        assert_eq!(second.shared(|_| ShardLoad::Idle).await, 0);
        first.shared(|_| ShardLoad::Idle).await;
        assert_eq!(second.shared(|_| ShardLoad::Idle).await, 8);
    }

    #[tokio::test]
    async fn a_shard_that_is_stuck_is_kept_and_one_that_does_not_drain_is_not_read_for_a_tick() {
        let space = TestSpace::new().await;
        let options = database(&space).await;
        let mut first = Shards::connect(&options).await.unwrap();
        first.shared(|_| ShardLoad::Idle).await;
        let _second = Shards::connect(&options).await.unwrap();
        let load = |shard| if shard < 12 { ShardLoad::Stuck } else { ShardLoad::Draining };
        first.shared(load).await;
        assert_eq!(first.owned(), (0..12).collect::<Vec<_>>());
        first.a_tick_goes_by();
        let kept = first.share(9, load).await.unwrap();
        let kept: Vec<_> = kept.iter().map(|kept| (kept.shard, kept.after)).collect();
        assert_eq!(
            kept,
            [(15, 7), (14, 7), (13, 7), (12, 7)],
            "and what was read of them until then"
        );
        first.shared(load).await;
        assert_eq!(first.owned().len(), 16, "none of them is tried again soon");
        first.shared(|_| ShardLoad::Idle).await;
        assert_eq!(first.owned().len(), 8);
    }

    /// The locks of a relay that is frozen while the server sends rows to it end too.
    #[tokio::test]
    async fn a_session_ends_if_its_relay_does_not_take_what_it_has_asked_for() {
        let space = TestSpace::new().await;
        let options = database(&space).await;
        let mut relay = Shards::connect(&options).await.unwrap();
        relay.shared(|_| ShardLoad::Idle).await;
        let large = "select repeat('x', 1000000) from generate_series(1, 500)";
        let mut asking = std::pin::pin!(sqlx::query(large).fetch_all(relay.session()));
        let asked = tokio::time::timeout(Duration::from_millis(10), &mut asking).await;
        assert!(asked.is_err(), "there is more to send");
        // Nothing reads from the connection from now on.
        let pool = PgPool::connect(space.database_url()).await.unwrap();
        let ended = async || {
            let locks: i64 = sqlx::query_scalar(
                "select count(*) from pg_locks join pg_database on pg_database.oid = pg_locks.database
                 where datname = current_database() and locktype = 'advisory'",
            )
            .fetch_one(&pool)
            .await
            .unwrap();
            (locks == 0).then_some(())
        };
        eventually("its locks end", Duration::from_secs(30), ended).await;
    }

    #[tokio::test]
    async fn a_busy_shard_of_a_former_relay_is_not_published_beside_it() {
        let space = TestSpace::new().await;
        let options = database(&space).await;
        let mut relay = Shards::connect(&options).await.unwrap();
        let load = |shard| if shard == 9 { ShardLoad::Draining } else { ShardLoad::Idle };
        relay.shared(load).await;
        let mut former =
            PgPool::connect(space.database_url()).await.unwrap().acquire().await.unwrap();
        sqlx::query("select pg_advisory_lock_shared($1, -1), pg_advisory_lock($1, 9)")
            .bind(FORMER_CLASS)
            .execute(&mut *former)
            .await
            .unwrap();
        relay.shared(load).await;
        relay.a_tick_goes_by();
        relay.shared(load).await;
        assert!(!relay.owned().contains(&9), "{:?}", relay.owned());
        former.close().await.unwrap();
        while !relay.owned().contains(&9) {
            relay.shared(load).await;
            relay.a_tick_goes_by();
        }
    }
}
