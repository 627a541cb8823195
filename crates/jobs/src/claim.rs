//! What a worker takes from the table.

use sqlx::postgres::PgRow;
use sqlx::{FromRow, Row};
use uuid::Uuid;

use crate::places::{Lane, Places};
use crate::queue::{Claimed, Queue};

/// How many lanes of a kind one claim looks at: each costs one step in the index.
const MAX_STEPS: i64 = 256;
/// How many more jobs than may be taken are chosen, since another worker may have chosen the same.
const SURPLUS: i64 = 16;

/// What a claim brought.
#[derive(Debug, Default)]
pub(crate) struct Claim {
    pub(crate) jobs: Vec<Claimed>,
    /// Kinds of which there are lanes that were not looked at, with the last one that was.
    pub(crate) cut: Vec<(String, Lane)>,
}

impl Queue {
    /// Takes jobs that are due and counts the attempt. First those of no tenant and no lane, the oldest first. Of the others
    /// the first of each lane, then the second of each, and so on, so that a lane with a long backlog has no advantage.
    ///
    /// A row of three columns is compared with the bounds of its lane, and not each column for itself: then no other index
    /// has the order, whatever the statistics of a table say that is all churn.
    pub(crate) async fn claim(&self, places: &Places) -> sqlx::Result<Claim> {
        let rows = sqlx::query(include_str!("claim.sql"))
            .bind(&places.kinds)
            .bind(&places.of_kind)
            .bind(&places.of_lane)
            .bind(&places.of_tenant)
            .bind(&places.after.tenants)
            .bind(&places.after.names)
            .bind(&places.busy.kinds)
            .bind(&places.busy.lanes.tenants)
            .bind(&places.busy.lanes.names)
            .bind(&places.busy.held)
            .bind(places.together)
            .bind(self.worker)
            .bind(self.lease.as_secs_f64())
            .bind(MAX_STEPS)
            .bind(SURPLUS)
            .fetch_all(&self.pool)
            .await?;
        Claim::of(&rows)
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
