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
        let rows = sqlx::query(
            "with recursive place as materialized (
                 select * from unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[], $6::text[])
                     as place (kind, free, of_lane, of_tenant, after_tenant, after_lane)
             ), busy as materialized (
                 select * from unnest($7::text[], $8::text[], $9::text[], $10::bigint[]) as busy (kind, tenant, lane, held)
             ), plain as materialized (
                 select place.kind, job.id, job.run_at from place cross join lateral (
                     select id, run_at from job
                     where kind = place.kind and failed_at is null and worker is null and not suspect
                         and (tenant, lane, run_at) >= ('', '', '-infinity')
                         and (tenant, lane, run_at) <= ('', '', now())
                     order by tenant, lane, run_at limit place.free
                     for update skip locked
                 ) as job
             ), walk (kind, tenant, lane, first_at, step) as (
                 select kind, after_tenant, after_lane, 'infinity'::timestamptz, 0 from place
                 union all
                 select walk.kind, next.tenant, next.lane, next.run_at, walk.step + 1
                 from walk cross join lateral (
                     select tenant, lane, run_at from job
                     where kind = walk.kind and failed_at is null and (tenant, lane) > (walk.tenant, walk.lane)
                     order by tenant, lane, run_at limit 1
                 ) as next
                 where walk.step < $14
             ), lane as materialized (
                 select walk.kind, walk.tenant, walk.lane, coalesce(busy.held, 0) as held,
                     case when walk.tenant = '' then place.free
                          else place.of_tenant - coalesce(tenant.held, 0) end as of_tenant,
                     case when walk.lane = '' then place.free
                          else place.of_lane - coalesce(busy.held, 0) end as of_lane,
                     place.free - (select count(*) from plain where plain.kind = walk.kind) as free
                 from walk join place using (kind)
                     left join busy using (kind, tenant, lane)
                     left join (select kind, tenant, sum(held) as held from busy group by kind, tenant) as tenant
                         using (kind, tenant)
                 where walk.first_at <= now()
             ), due as (
                 select lane.kind, lane.tenant, lane.of_tenant, lane.free, job.id, job.run_at,
                     lane.held + row_number() over (partition by lane.kind, lane.tenant, lane.lane order by job.run_at)
                         as turn
                 from lane cross join lateral (
                     select id, run_at from job
                     where kind = lane.kind and failed_at is null and worker is null and not suspect
                         and (tenant, lane, run_at) >= (lane.tenant, lane.lane, '-infinity')
                         and (tenant, lane, run_at) <= (lane.tenant, lane.lane, now())
                     order by tenant, lane, run_at
                     limit greatest(least(lane.of_lane, lane.of_tenant, lane.free), 0)
                 ) as job
             ), of_tenants as (
                 select *, row_number() over (partition by kind, tenant order by turn, run_at) as in_tenant from due
             ), of_kinds as materialized (
                 select *, row_number() over (partition by kind order by turn, run_at) as in_kind
                 from of_tenants where in_tenant <= of_tenant
             ), fair as materialized (
                 select job.id, job.run_at from place cross join lateral (
                     select job.id, job.run_at
                     from of_kinds join job on job.id = of_kinds.id
                     where of_kinds.kind = place.kind and in_kind <= free + $15
                         and job.failed_at is null and job.worker is null and job.run_at <= now()
                     order by in_kind
                     limit place.free - (select count(*) from plain where plain.kind = place.kind)
                     for update of job skip locked
                 ) as job
             ), claimed as (
                 update job set attempts = attempts + 1, worker = $12, run_at = now() + make_interval(secs => $13)
                 from (select id, run_at from plain union all select id, run_at from fair order by run_at limit $11)
                     as taken
                 where job.id = taken.id
                 returning job.id, kind, payload, attempts, tenant, lane, subject, correlation_id, traceparent,
                     tracestate, created_at, extract(epoch from now() - postponed_since)::float8 as postponed_for
             )
             select * from claimed
             union all
             select null, kind, null, null, tenant, lane, null, null, null, null, null, null from walk where step = $14",
        )
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
