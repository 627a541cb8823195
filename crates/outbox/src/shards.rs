//! Which shards this instance publishes: advisory locks of one session, so that they end with it.

use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection};

use crate::prepared::SHARDS;

/// The first key of every advisory lock of this crate ("outb").
const LOCK_CLASS: i32 = 0x6f75_7462;
/// The second key of the lock that every relay shares, to be counted.
const MEMBER: i32 = -1;

/// How often ownership is confirmed and shared anew.
const TICK: Duration = Duration::from_secs(1);

/// A session that is silent for longer is ended by Postgres, and its locks with it: so a relay that was frozen
/// can't keep its shards from others.
const SILENCE: &str = "5s";

/// A session with Postgres and the shards that it has locked. All of a relay's statements go through it: when
/// it is lost, so is the right to publish.
pub(crate) struct Shards {
    session: PgConnection,
    owned: Vec<i16>,
    next_tick: Instant,
}

impl Shards {
    pub(crate) async fn connect(options: &PgConnectOptions) -> sqlx::Result<Self> {
        let mut session = options.connect().await?;
        let settings = [
            ("idle_session_timeout", SILENCE.to_owned()),
            // A delete that a crash of Postgres forgets is an event published twice, which an inbox knows.
            ("synchronous_commit", "off".to_owned()),
        ];
        pg::set_in_session(&mut session, &settings).await?;
        sqlx::query("select pg_advisory_lock_shared($1, $2)")
            .bind(LOCK_CLASS)
            .bind(MEMBER)
            .execute(&mut session)
            .await?;
        Ok(Self { session, owned: Vec::new(), next_tick: Instant::now() })
    }

    pub(crate) fn session(&mut self) -> &mut PgConnection {
        &mut self.session
    }

    pub(crate) fn owned(&self) -> &[i16] {
        &self.owned
    }

    /// When [`Shards::share`] or [`Shards::confirm`] is due.
    pub(crate) fn next_tick(&self) -> Instant {
        self.next_tick
    }

    /// Says that this relay is alive. An error: the session is lost, and with it the shards.
    pub(crate) async fn confirm(&mut self) -> sqlx::Result<()> {
        self.next_tick = Instant::now() + TICK;
        self.session.ping().await
    }

    /// Takes or gives up shards, so that all relays have about as many. Only between batches: a shard that is
    /// given up must have nothing under way. True: something changed.
    pub(crate) async fn share(&mut self) -> sqlx::Result<bool> {
        self.next_tick = Instant::now() + TICK;
        let relays: i64 = sqlx::query_scalar(
            "select count(*) from pg_locks
             where locktype = 'advisory' and granted and classid::int8 = $1 and objid::int8 = $2 & 4294967295
               and database = (select oid from pg_database where datname = current_database())",
        )
        .bind(i64::from(LOCK_CLASS))
        .bind(i64::from(MEMBER))
        .fetch_one(&mut self.session)
        .await?;
        let fair_share =
            SHARDS.unsigned_abs().div_ceil(u16::try_from(relays.max(1)).unwrap_or(u16::MAX));
        let fair_share = usize::from(fair_share);
        let before = self.owned.clone();
        while self.owned.len() > fair_share {
            let surplus = self.owned[self.owned.len() - 1];
            self.lock_statement("select pg_advisory_unlock($1, $2)", surplus).await?;
            self.owned.pop();
        }
        for shard in (0..SHARDS).filter(|shard| !before.contains(shard)) {
            if self.owned.len() >= fair_share {
                break;
            }
            if self.lock_statement("select pg_try_advisory_lock($1, $2)", shard).await? {
                self.owned.push(shard);
            }
        }
        Ok(self.owned != before)
    }

    async fn lock_statement(&mut self, sql: &'static str, shard: i16) -> sqlx::Result<bool> {
        let answer = sqlx::query_scalar(sql).bind(LOCK_CLASS).bind(i32::from(shard));
        answer.fetch_one(&mut self.session).await
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
