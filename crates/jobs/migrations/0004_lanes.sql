-- Whose places a job takes: those of its tenant, and within them those of its lane (a webhook, say). '' and not null, so that
-- both are ordered and compared as a row.
alter table job
    add column tenant text not null default '',
    add column lane text not null default '';

-- For the claim, which steps from lane to lane: a lane that has no place left costs one step, however many of its jobs wait.
-- job_due stays for instances of the release before.
create index job_turn on job (kind, tenant, lane, run_at) where failed_at is null;
