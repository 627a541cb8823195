-- The part of claim.sql for jobs of no tenant and no lane. Parameters: see Queue::claim_plain.
with place as materialized (
    select * from unnest($1::text[], $2::bigint[]) as place (kind, free)
), plain as materialized (
    select job.id from place cross join lateral (
        select id from job
        where kind = place.kind and failed_at is null and worker is null and not suspect
            and (tenant, lane, run_at) >= ('', '', '-infinity')
            and (tenant, lane, run_at) <= ('', '', now())
        order by tenant, lane, run_at limit place.free
        for update skip locked
    ) as job
)
update job
set attempts = attempts + 1, worker = $3, again = false, run_at = now() + make_interval(secs => $4)
from plain
where job.id = plain.id
returning job.id, kind, payload, attempts, tenant, lane, subject, correlation_id, traceparent,
    tracestate, created_at, extract(epoch from now() - postponed_since)::float8 as postponed_for
