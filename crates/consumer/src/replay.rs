use kafka::{Coordinates, Record};
use serde::Serialize;
use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;

use crate::outcome::Outcome;

/// A record that an operator sent again to one group.
#[derive(Debug)]
pub(crate) struct Replay {
    id: String,
    origin: Coordinates,
}

/// What became of a replay.
#[derive(Debug, Serialize, sqlx::FromRow)]
pub struct Replayed {
    /// The id that the operator gave it.
    pub id: String,
    /// Whose dead letter it was.
    pub subscription: String,
    /// Where the record first lay: name on the cluster.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
    /// When it was written there, in milliseconds since 1970.
    pub timestamp: i64,
    /// `processed`, `duplicate`, `superseded`; `failed`: it is a dead letter again; `parked`: it failed too often to
    /// be tried again.
    pub outcome: String,
    /// Why it failed.
    pub reason: Option<String>,
    /// When, UTC.
    #[serde(with = "time::serde::rfc3339")]
    pub settled_at: OffsetDateTime,
}

impl Replay {
    /// The replay that a record of the group's own retry topic is. Anybody else's headers are not to be believed.
    pub(crate) fn carried_by(record: &Record) -> Option<Self> {
        let id = record.text_header(kafka::REPLAY_ID)?.to_owned();
        Some(Self { id, origin: Coordinates::carried_by(record)? })
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn origin(&self) -> &Coordinates {
        &self.origin
    }

    /// Parks a replay that failed too often before: it stays the dead letter that it is. Returns whether it did.
    pub(crate) async fn park(
        &self,
        pool: &PgPool,
        subscription: &str,
        max_replays: u32,
    ) -> sqlx::Result<bool> {
        let failures = self.failures(pool, subscription).await?;
        if failures < i64::from(max_replays) {
            return Ok(false);
        }
        let reason = format!("it was replayed {failures} times in vain, and is not tried again");
        tracing::error!(reason, replay_id = self.id, "parked replay");
        self.in_vain(pool, subscription, Outcome::Parked.as_str(), &reason).await?;
        Ok(true)
    }

    /// How often this record was replayed in vain.
    async fn failures(&self, pool: &PgPool, subscription: &str) -> sqlx::Result<i64> {
        sqlx::query_scalar(
            r#"select count(*) from replay
               where subscription = $1 and topic = $2 and partition = $3 and "offset" = $4
                 and "timestamp" = $5 and outcome = 'failed'"#,
        )
        .bind(subscription)
        .bind(&self.origin.topic)
        .bind(self.origin.partition)
        .bind(self.origin.offset)
        .bind(self.origin.timestamp)
        .fetch_one(pool)
        .await
    }

    /// In the transaction of the inbox row.
    pub(crate) async fn settled(
        &self,
        tx: &mut PgConnection,
        subscription: &str,
        outcome: Outcome,
    ) -> sqlx::Result<()> {
        self.record(tx, subscription, outcome.as_str(), None).await
    }

    /// When its type has no handler, and such types are ignored.
    pub(crate) async fn ignored(&self, pool: &PgPool, subscription: &str) -> sqlx::Result<()> {
        let mut connection = pool.acquire().await?;
        self.record(&mut connection, subscription, Outcome::Ignored.as_str(), None).await
    }

    /// When it has no effect: `failed` or `parked`.
    pub(crate) async fn in_vain(
        &self,
        pool: &PgPool,
        subscription: &str,
        outcome: &'static str,
        reason: &str,
    ) -> sqlx::Result<()> {
        let mut connection = pool.acquire().await?;
        self.record(&mut connection, subscription, outcome, Some(reason)).await
    }

    /// A replay that is delivered twice was first settled as what it came to; the second time changes nothing.
    async fn record(
        &self,
        connection: &mut PgConnection,
        subscription: &str,
        outcome: &str,
        reason: Option<&str>,
    ) -> sqlx::Result<()> {
        sqlx::query(
            r#"insert into replay (id, subscription, topic, partition, "offset", "timestamp", outcome, reason)
               values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict (id) do nothing"#,
        )
        .bind(&self.id)
        .bind(subscription)
        .bind(&self.origin.topic)
        .bind(self.origin.partition)
        .bind(self.origin.offset)
        .bind(self.origin.timestamp)
        .bind(outcome)
        .bind(reason)
        .execute(connection)
        .await?;
        Ok(())
    }
}

/// What became of a replay; none: it is not settled yet, or nobody made it.
pub async fn replayed(pool: &PgPool, id: &str) -> sqlx::Result<Option<Replayed>> {
    sqlx::query_as(
        r#"select id, subscription, topic, partition, "offset", "timestamp", outcome, reason, settled_at
           from replay where id = $1"#,
    )
    .bind(id)
    .fetch_optional(pool)
    .await
}

/// The dead letters of a subscription that were replayed well, each once.
pub async fn recovered(pool: &PgPool, subscription: &str) -> sqlx::Result<Vec<Replayed>> {
    sqlx::query_as(
        r#"select distinct on (topic, partition, "offset", "timestamp")
                  id, subscription, topic, partition, "offset", "timestamp", outcome, reason, settled_at
           from replay where subscription = $1 and outcome not in ('failed', 'parked')
           order by topic, partition, "offset", "timestamp", settled_at desc"#,
    )
    .bind(subscription)
    .fetch_all(pool)
    .await
}
