//! Which shards this instance publishes: advisory locks of one session, so that they end with it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection};

use crate::prepared::SHARDS;

/// "outb": the class of the advisory locks of relays up to version 0.1, whatever the table. The class of later ones is
/// this and the table's oid, so that two schemas of a database do not share locks. No oid is 0, so the two differ.
const FORMER_CLASS: i32 = 0x6f75_7462;
/// The second key of the lock that every relay shares, to be counted.
const MEMBER: i32 = -1;

/// How often ownership is confirmed and shared anew.
const TICK: Duration = Duration::from_secs(1);
/// How long a shard that is to be given up may wait for what is under way of it. After that it is kept for [`KEPT`]: it is
/// stuck with us, and nobody would publish the rest of it.
const LEAVING: Duration = Duration::from_secs(5);
const KEPT: Duration = Duration::from_secs(30);

/// The server's limit of a statement.
const STATEMENT_TIMEOUT: &str = "10s";

/// Limits on the server, and habits of the plans. A session that is silent for longer is ended by Postgres, and its locks
/// with it: so a relay that was frozen can't keep its shards from others.
const SETTINGS: [(&str, &str); 8] = [
    ("idle_session_timeout", "5s"),
    ("statement_timeout", STATEMENT_TIMEOUT),
    // A delete that a crash of Postgres forgets is an event published twice, which an inbox knows.
    ("synchronous_commit", "off"),
    // The table's statistics are always wrong: it is empty, or it holds a backlog. Rows are read by index, in its order.
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_bitmapscan", "off"),
    ("enable_sort", "off"),
    ("jit", "off"),
];

/// A session with Postgres and the shards that it has locked. All of a relay's statements go through it: when
/// it is lost, so is the right to publish.
pub(crate) struct Shards {
    session: PgConnection,
    class: i32,
    owned: Vec<i16>,
    leaving: Vec<(i16, Instant)>,
    /// No shard is given up before.
    kept_until: Instant,
    /// Relays of the former class are there, and so its locks are taken as well.
    with_former: bool,
    /// The shards whose lock of the former class is held.
    former: BTreeSet<i16>,
    next_tick: Instant,
}

impl Shards {
    pub(crate) async fn connect(options: &PgConnectOptions) -> sqlx::Result<Self> {
        let mut session = options.connect().await?;
        let settings = SETTINGS.map(|(name, value)| (name, value.to_owned()));
        pg::set_in_session(&mut session, &settings).await?;
        // A client that is gone does not leave its statement running. Servers on some platforms can't look.
        let check = sqlx::raw_sql("set client_connection_check_interval = '1s'");
        match check.execute(&mut session).await {
            Ok(_) | Err(sqlx::Error::Database(_)) => {}
            Err(error) => return Err(error),
        }
        let table: i64 = sqlx::query_scalar("select 'outbox'::regclass::oid::int8")
            .fetch_one(&mut session)
            .await?;
        let table = u32::try_from(table).unwrap_or_default();
        let now = Instant::now();
        let mut shards = Self {
            session,
            class: FORMER_CLASS ^ table.cast_signed(),
            owned: Vec::new(),
            leaving: Vec::new(),
            kept_until: now,
            with_former: false,
            former: BTreeSet::new(),
            next_tick: now,
        };
        shards.execute("select pg_advisory_lock_shared($1, $2)", shards.class, MEMBER).await?;
        Ok(shards)
    }

    pub(crate) fn session(&mut self) -> &mut PgConnection {
        &mut self.session
    }

    /// Returns the shards whose rows may be read.
    pub(crate) fn owned(&self) -> &[i16] {
        &self.owned
    }

    /// Lets statements take as long as this.
    pub(crate) async fn allow_statements(&mut self, limit: Duration) -> sqlx::Result<()> {
        self.set_statement_timeout(format!("{}ms", limit.as_millis())).await
    }

    /// Lets statements take as long as usual.
    pub(crate) async fn limit_statements(&mut self) -> sqlx::Result<()> {
        self.set_statement_timeout(STATEMENT_TIMEOUT.to_owned()).await
    }

    async fn set_statement_timeout(&mut self, limit: String) -> sqlx::Result<()> {
        pg::set_in_session(&mut self.session, &[("statement_timeout", limit)]).await
    }

    /// When [`Shards::share`] is due.
    pub(crate) fn next_tick(&self) -> Instant {
        self.next_tick
    }

    /// Takes or gives up shards, so that all relays have about as many. A shard of which something is under way is given up
    /// later. Returns the shards that were taken, or that are kept after all: of neither it is known what waits.
    ///
    /// Fails if the session is lost, and with it the shards.
    pub(crate) async fn share(&mut self, is_busy: impl Fn(i16) -> bool) -> sqlx::Result<Vec<i16>> {
        let now = Instant::now();
        self.next_tick = now + TICK;
        let (relays, former) = self.count().await?;
        self.adapt_to_former(former > 0, now).await?;
        let relays = u16::try_from((relays + former).max(1)).unwrap_or(u16::MAX);
        let fair_share = usize::from(SHARDS.unsigned_abs().div_ceil(relays));
        while self.owned.len() > fair_share && now >= self.kept_until {
            // One that is idle can be given up at once.
            let idle = self.owned.iter().rposition(|shard| !is_busy(*shard));
            let surplus = self.owned.remove(idle.unwrap_or(self.owned.len() - 1));
            self.leaving.push((surplus, now));
        }
        let mut taken = self.leave(is_busy, now).await?;
        taken.extend(self.take(fair_share).await?);
        Ok(taken)
    }

    /// Counts the relays of this table, and those of the former class.
    async fn count(&mut self) -> sqlx::Result<(i64, i64)> {
        sqlx::query_as(
            "with member as (
                 select pid, classid::int8 as class from pg_locks
                 where locktype = 'advisory' and granted and objsubid = 2 and objid::int8 = $3::int8 & 4294967295
                   and database = (select oid from pg_database where datname = current_database()))
             select count(*) filter (where class = $1::int8 & 4294967295),
                    count(*) filter (where class = $2::int8 & 4294967295
                        and pid not in (select pid from member where class = $1::int8 & 4294967295))
             from member",
        )
        .bind(i64::from(self.class))
        .bind(i64::from(FORMER_CLASS))
        .bind(i64::from(MEMBER))
        .fetch_one(&mut self.session)
        .await
    }

    /// Holds the locks of the former class too, as long as such a relay is there: it counts us then, leaves us our share,
    /// and does not publish what we publish.
    async fn adapt_to_former(&mut self, is_there: bool, now: Instant) -> sqlx::Result<()> {
        let was_there = std::mem::replace(&mut self.with_former, is_there);
        if is_there && !was_there {
            self.execute("select pg_advisory_lock_shared($1, $2)", FORMER_CLASS, MEMBER).await?;
            for shard in std::mem::take(&mut self.owned) {
                if self.lock_former(shard).await? {
                    self.owned.push(shard);
                } else {
                    self.leaving.push((shard, now));
                }
            }
        } else if !is_there && was_there {
            self.execute("select pg_advisory_unlock_shared($1, $2)", FORMER_CLASS, MEMBER).await?;
            for shard in std::mem::take(&mut self.former) {
                self.unlock(FORMER_CLASS, shard).await?;
            }
        }
        Ok(())
    }

    /// Gives up what is to be given up and not busy. Returns the shards that are kept instead.
    async fn leave(
        &mut self,
        is_busy: impl Fn(i16) -> bool,
        now: Instant,
    ) -> sqlx::Result<Vec<i16>> {
        let mut kept = Vec::new();
        for (shard, since) in std::mem::take(&mut self.leaving) {
            if !is_busy(shard) {
                if self.former.remove(&shard) {
                    self.unlock(FORMER_CLASS, shard).await?;
                }
                self.unlock(self.class, shard).await?;
            } else if now - since > LEAVING && self.lock_former(shard).await? {
                self.owned.push(shard);
                self.kept_until = now + KEPT;
                kept.push(shard);
            } else {
                self.leaving.push((shard, since));
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

    async fn take(&mut self, fair_share: usize) -> sqlx::Result<Vec<i16>> {
        let mut taken = Vec::new();
        for shard in 0..SHARDS {
            if self.owned.len() + self.leaving.len() >= fair_share {
                break;
            }
            let is_ours = self.owned.contains(&shard)
                || self.leaving.iter().any(|(leaving, _)| *leaving == shard);
            if is_ours || !self.try_lock(self.class, shard).await? {
                continue;
            }
            if !self.lock_former(shard).await? {
                self.unlock(self.class, shard).await?;
                continue;
            }
            self.owned.push(shard);
            taken.push(shard);
        }
        Ok(taken)
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

    /// Ends the session, so that others can take the shards at once.
    pub(crate) async fn release(self) {
        if let Err(error) = self.session.close().await {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "the relay's session ended badly"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use sandbox::testing::TestSpace;
    use sqlx::PgPool;

    use super::*;

    #[tokio::test]
    async fn a_shard_changes_hands_when_nothing_of_it_is_under_way() {
        let space = TestSpace::new().await;
        let pool = PgPool::connect(space.database_url()).await.unwrap();
        crate::migrate(&pool).await.unwrap();
        let options = space.database_url().parse().unwrap();
        let mut first = Shards::connect(&options).await.unwrap();
        assert_eq!(first.share(|_| false).await.unwrap().len(), 16);

        let mut second = Shards::connect(&options).await.unwrap();
        first.share(|_| true).await.unwrap();
        assert_eq!(first.owned().len(), 8, "nothing more is read of the others");
        assert_eq!(second.share(|_| false).await.unwrap().len(), 0);
        first.share(|_| false).await.unwrap();
        assert_eq!(second.share(|_| false).await.unwrap().len(), 8);
    }

    #[tokio::test]
    async fn a_shard_that_is_kept_is_taken_over_anew() {
        let space = TestSpace::new().await;
        let pool = PgPool::connect(space.database_url()).await.unwrap();
        crate::migrate(&pool).await.unwrap();
        let options = space.database_url().parse().unwrap();
        let mut first = Shards::connect(&options).await.unwrap();
        first.share(|_| false).await.unwrap();
        let _second = Shards::connect(&options).await.unwrap();
        first.share(|_| true).await.unwrap();
        assert_eq!(first.owned().len(), 8);
        for (_, since) in &mut first.leaving {
            *since -= LEAVING;
        }
        let mut kept = first.share(|shard| shard == 9).await.unwrap();
        kept.sort_unstable();
        assert_eq!(kept, [9], "what was forgotten of it is found again");
        assert_eq!(first.owned().len(), 9);
    }

    #[tokio::test]
    async fn a_busy_shard_of_a_former_relay_is_not_published_beside_it() {
        let space = TestSpace::new().await;
        let pool = PgPool::connect(space.database_url()).await.unwrap();
        crate::migrate(&pool).await.unwrap();
        let options = space.database_url().parse().unwrap();
        let mut relay = Shards::connect(&options).await.unwrap();
        relay.share(|_| false).await.unwrap();
        let mut former =
            PgPool::connect(space.database_url()).await.unwrap().acquire().await.unwrap();
        sqlx::query("select pg_advisory_lock_shared($1, -1), pg_advisory_lock($1, 9)")
            .bind(FORMER_CLASS)
            .execute(&mut *former)
            .await
            .unwrap();
        relay.share(|shard| shard == 9).await.unwrap();
        for (_, since) in &mut relay.leaving {
            *since -= LEAVING;
        }
        relay.share(|shard| shard == 9).await.unwrap();
        assert!(!relay.owned().contains(&9), "{:?}", relay.owned());
        former.close().await.unwrap();
        while !relay.owned().contains(&9) {
            relay.share(|shard| shard == 9).await.unwrap();
        }
    }
}
