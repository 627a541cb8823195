-- Work that must not be lost. A row is written in the transaction that asks for the work, and deleted when it is done; so
-- the table holds what waits, what runs, and what has failed for good.
create table job (
    -- UUIDv7, given by who enqueues; also the key by which a target can tell that it was asked before.
    id             uuid        primary key,
    kind           text        not null,
    -- json and not jsonb: written once, and jsonb refuses texts (\u0000) that are valid JSON.
    payload        json        not null,
    -- At most one job of this kind and key is waiting or running.
    unique_key     text,
    -- What it is about (an order), for those who look.
    subject        text,
    correlation_id text,
    traceparent    text,
    -- Counted when it is claimed and not when it ends, so that an attempt that killed its process counts.
    attempts       integer     not null default 0,
    -- When it may be claimed. A claim moves this to the end of its lease: so "due" is one comparison and one index, whether
    -- a job is new, waits for its retry, or was left behind by a worker that died.
    run_at         timestamptz not null default clock_timestamp(),
    -- Who runs it. A worker has a new id at each start, so nobody takes the claims of his former life for his own.
    worker         uuid,
    -- Of every attempt that failed: [{"attempt": 1, "at": "...", "error": "...\ncaused by: ..."}]. One column and not a
    -- table: it is only ever read with its job, and is bounded.
    errors         jsonb       not null default '[]',
    created_at     timestamptz not null default clock_timestamp(),
    -- It has failed for good, and waits for an operator.
    failed_at      timestamptz
);

-- For the claim. By kind first, so that a kind that may not be claimed now (its target is dead, or this instance does not
-- know it) is not stepped over row by row. Failed jobs are not in it: there may be many.
create index job_due on job (kind, run_at) where failed_at is null;

-- Not when it failed: a job that failed last month must not keep its successors out.
create unique index job_unique on job (kind, unique_key) where unique_key is not null and failed_at is null;

-- For the operator, in the order in which lists are read, each as small as what is in it; job_running is also for a worker
-- that ends and gives back what it claimed.
create index job_failed on job (id) where failed_at is not null;
create index job_running on job (id) where worker is not null;
create index job_subject on job (subject, id) where subject is not null;

-- Rows live for milliseconds, so the table is all churn: vacuum it by the number of dead rows, not by a share.
alter table job set (
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_insert_threshold = -1
);
