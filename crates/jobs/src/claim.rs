//! Claims of jobs by a worker.

use sqlx::postgres::PgRow;
use sqlx::{FromRow, Row};
use uuid::Uuid;

use crate::queue::{Claimed, Queue};
use crate::slots::{Lane, Slots};

/// Maximum number of lanes of a kind in one claim; each costs one step in the index.
const MAX_STEPS: i64 = 256;
/// Number of surplus jobs to select, since another worker may have selected the same ones.
const SURPLUS: i64 = 16;

/// Result of a claim.
#[derive(Debug, Default)]
pub(crate) struct Claim {
    pub(crate) jobs: Vec<Claimed>,
    /// Kinds with further lanes, each with the last lane that was read.
    pub(crate) cut: Vec<(String, Lane)>,
}

impl Queue {
    /// Claims due jobs and counts the attempt. Jobs without tenant and lane come first, oldest
    /// first. Then follow the first job of each lane, the second of each, and so on, so that a lane
    /// with a long backlog has no advantage.
    ///
    /// The bounds of a lane are compared as rows of three columns, not column by column, because
    /// then no other index has the order, regardless of the (always outdated) statistics.
    pub(crate) async fn claim(&self, slots: &Slots) -> sqlx::Result<Claim> {
        let rows = sqlx::query(include_str!("claim.sql"))
            .bind(&slots.kinds)
            .bind(&slots.of_kind)
            .bind(&slots.of_lane)
            .bind(&slots.of_tenant)
            .bind(&slots.after.tenants)
            .bind(&slots.after.names)
            .bind(&slots.busy.kinds)
            .bind(&slots.busy.lanes.tenants)
            .bind(&slots.busy.lanes.names)
            .bind(&slots.busy.held)
            .bind(slots.together)
            .bind(self.worker)
            .bind(self.lease.as_secs_f64())
            .bind(MAX_STEPS)
            .bind(SURPLUS)
            .fetch_all(&self.pool)
            .await?;
        Claim::of(&rows)
    }
}

impl Queue {
    /// Claims due jobs without tenant and lane, which [`claim`](Self::claim) claims first. This
    /// takes a fifth of its time, most of which it is planned. The limit for all kinds together is
    /// not applied, so the kinds' own must not exceed it.
    pub(crate) async fn claim_plain(&self, slots: &Slots) -> sqlx::Result<Vec<Claimed>> {
        sqlx::query_as(include_str!("claim_plain.sql"))
            .bind(&slots.kinds)
            .bind(&slots.of_kind)
            .bind(self.worker)
            .bind(self.lease.as_secs_f64())
            .fetch_all(&self.pool)
            .await
    }
}

impl Claim {
    fn of(rows: &[PgRow]) -> sqlx::Result<Self> {
        let mut claim = Self::default();
        for row in rows {
            if row.try_get::<Option<Uuid>, _>("id")?.is_some() {
                claim.jobs.push(Claimed::from_row(row)?);
            } else {
                let lane = Lane { tenant: row.try_get("tenant")?, name: row.try_get("lane")? };
                claim.cut.push((row.try_get("kind")?, lane));
            }
        }
        Ok(claim)
    }
}
