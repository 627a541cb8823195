use std::time::{Duration, Instant};

use pg::ErrorClass;
use sqlx::{AssertSqlSafe, PgConnection, PgPool};

/// Number of slots, as in the migration.
pub(super) const SLOTS: i16 = 8;
/// How long a slot is current, so that a step is kept for 21 to 24 hours.
const WRITTEN_FOR: &str = "3 hours";
/// Age of a slot at which all its steps are too old. Needed after a time without a running
/// instance.
const TOO_OLD: &str = "27 hours";
/// Interval of maintenance.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// The slots of the table, one of which is current.
pub(super) struct Ring {
    /// Size of a slot with its index, in bytes, above which the next slot is used.
    slot_bytes: i64,
    slot: Option<i16>,
    next_look: Instant,
}

impl Ring {
    pub(super) fn new(max_bytes: u64) -> Self {
        let slot_bytes = i64::try_from(max_bytes).unwrap_or(i64::MAX) / i64::from(SLOTS);
        Self { slot_bytes, slot: None, next_look: Instant::now() }
    }

    /// Returns `true` if maintenance is due, even without steps to write.
    pub(super) fn is_due(&self) -> bool {
        Instant::now() >= self.next_look
    }

    /// Returns the slot to write to. If the current one is old or full enough, truncates the oldest
    /// and returns that.
    pub(super) async fn slot(&mut self, pool: &PgPool) -> sqlx::Result<i16> {
        if let Some(slot) = self.slot.filter(|_| !self.is_due()) {
            return Ok(slot);
        }
        let current = current(&mut *pool.acquire().await?, self.slot_bytes).await?;
        let slot = if current.is_to_turn {
            self.turn_unless_read(pool, current.slot).await?
        } else {
            current.slot
        };
        self.slot = Some(slot);
        self.next_look = Instant::now() + LOOK_EVERY;
        Ok(slot)
    }

    /// Opens the next slot, or returns the current one if somebody reads the table for longer, as a
    /// backup does. Steps are then written to the current slot until the next look.
    async fn turn_unless_read(&self, pool: &PgPool, current: i16) -> sqlx::Result<i16> {
        match self.turn(pool).await {
            Err(error) if matches!(pg::classify(&error), ErrorClass::Conflict) => {
                let error = &error as &dyn std::error::Error;
                tracing::debug!(error, "next slot of flow steps not opened, retrying later");
                Ok(current)
            }
            turned => turned,
        }
    }

    /// Opens the next slot, unless another instance has done so meanwhile.
    async fn turn(&self, pool: &PgPool) -> sqlx::Result<i16> {
        let mut tx = pool.begin().await?;
        // Readers of the table wait behind a truncation that waits.
        sqlx::raw_sql("set local lock_timeout = '200ms'").execute(&mut *tx).await?;
        sqlx::query("select from flow_step_slot order by slot for update")
            .execute(&mut *tx)
            .await?;
        let current = current(&mut tx, self.slot_bytes).await?;
        if !current.is_to_turn {
            return Ok(current.slot);
        }
        let next = (current.slot + 1) % SLOTS;
        for slot in (0..SLOTS).filter(|slot| *slot == next || current.too_old.contains(slot)) {
            let truncate = format!("truncate flow_step_{slot}");
            sqlx::query(AssertSqlSafe(truncate)).persistent(false).execute(&mut *tx).await?;
        }
        sqlx::query(
            "update flow_step_slot set opened_at = case when slot = $1 then clock_timestamp() end
             where slot = $1 or slot = any($2)",
        )
        .bind(next)
        .bind(&current.too_old)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(next)
    }
}

#[derive(sqlx::FromRow)]
struct Current {
    slot: i16,
    /// `true` if the current slot is old or full enough.
    is_to_turn: bool,
    /// Other slots with only expired steps.
    too_old: Vec<i16>,
}

async fn current(connection: &mut PgConnection, slot_bytes: i64) -> sqlx::Result<Current> {
    sqlx::query_as(
        "select slot, opened_at < clock_timestamp() - $2::interval
                 or pg_total_relation_size(format('flow_step_%s', slot)::regclass) > $1 as is_to_turn,
             array(select slot from flow_step_slot other
                   where other.slot <> it.slot and other.opened_at < clock_timestamp() - $3::interval) as too_old
         from flow_step_slot it where opened_at is not null order by opened_at desc limit 1",
    )
    .bind(slot_bytes)
    .bind(WRITTEN_FOR)
    .bind(TOO_OLD)
    .fetch_one(connection)
    .await
}
