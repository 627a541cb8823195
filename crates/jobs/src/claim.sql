-- Parameters: see Queue::claim.
with recursive place as materialized (
    select * from unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[], $6::text[])
        as place (kind, free, of_lane, of_tenant, after_tenant, after_lane)
-- Lanes of which this worker runs jobs.
), busy as materialized (
    select * from unnest($7::text[], $8::text[], $9::text[], $10::bigint[]) as busy (kind, tenant, lane, held)
-- Jobs of no tenant and no lane.
), plain as materialized (
    select place.kind, job.id, job.run_at from place cross join lateral (
        select id, run_at from job
        where kind = place.kind and failed_at is null and worker is null and not suspect
            and (tenant, lane, run_at) >= ('', '', '-infinity')
            and (tenant, lane, run_at) <= ('', '', now())
        order by tenant, lane, run_at limit place.free
        for update skip locked
    ) as job
-- Places that are left for lanes.
), rest as materialized (
    select kind, of_lane, of_tenant, after_tenant, after_lane,
        free - (select count(*) from plain where plain.kind = place.kind) as free
    from place
-- From lane to lane, with the moment since when its first job is due: one step in the index each, and none without a place.
), walk (kind, tenant, lane, first_at, step) as (
    select kind, after_tenant, after_lane, 'infinity'::timestamptz, case when free > 0 then 0 else $14 end from rest
    union all
    select walk.kind, next.tenant, next.lane, next.run_at, walk.step + 1
    from walk cross join lateral (
        select tenant, lane, run_at from job
        where kind = walk.kind and failed_at is null and (tenant, lane) > (walk.tenant, walk.lane)
        order by tenant, lane, run_at limit 1
    ) as next
    where walk.step < $14
-- How many more jobs each lane and tenant may have.
), lane as materialized (
    select walk.kind, walk.tenant, walk.lane, coalesce(busy.held, 0) as held,
        case when walk.tenant = '' then rest.free
             else rest.of_tenant - coalesce(tenant.held, 0) end as of_tenant,
        case when walk.lane = '' then rest.free
             else rest.of_lane - coalesce(busy.held, 0) end as of_lane,
        rest.free
    from walk join rest using (kind)
        left join busy using (kind, tenant, lane)
        left join (select kind, tenant, sum(held)::bigint as held from busy group by kind, tenant) as tenant
            using (kind, tenant)
    where walk.first_at <= now()
-- Of each lane its first jobs, as many as it may have, counted on from those that run.
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
-- Every lane's first before any lane's second, within each tenant and then within the kind.
), of_tenants as (
    select *, row_number() over (partition by kind, tenant order by turn, run_at) as in_tenant from due
), of_kinds as materialized (
    select *, row_number() over (partition by kind order by turn, run_at) as in_kind
    from of_tenants where in_tenant <= of_tenant
-- Another worker may be about to take the same ones.
), fair as materialized (
    select job.id, job.run_at from rest cross join lateral (
        select job.id, job.run_at
        from of_kinds join job on job.id = of_kinds.id
        where of_kinds.kind = rest.kind and in_kind <= rest.free + $15
            and job.failed_at is null and job.worker is null and job.run_at <= now()
        order by in_kind
        limit rest.free
        for update of job skip locked
    ) as job
), claimed as (
    update job
    set attempts = attempts + 1, worker = $12, again = false, run_at = now() + make_interval(secs => $13)
    from (select id, run_at from plain union all select id, run_at from fair order by run_at limit $11)
        as taken
    where job.id = taken.id
    returning job.id, kind, payload, attempts, tenant, lane, subject, correlation_id, traceparent,
        tracestate, created_at, extract(epoch from now() - postponed_since)::float8 as postponed_for
)
select * from claimed
-- Where the walk was cut off.
union all
select null, kind, null, null, tenant, lane, null, null, null, null, null, null from walk where step = $14
