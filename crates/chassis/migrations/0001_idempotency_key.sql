-- The answer given to each Idempotency-Key, written in the statement of the change itself: so there is never a
-- change without its key or a key without its change. A twin in flight waits on the primary key.
create table idempotency_key (
    tenant_id   text        not null,
    key         text        not null,
    -- SHA-256 of method, path and body: the same key for another request is a mistake of the caller.
    fingerprint bytea       not null,
    status      smallint    not null,
    headers     json        not null,
    body        json        not null,
    created_at  timestamptz not null default now(),
    primary key (tenant_id, key)
);

-- For pruning.
create index idempotency_key_created_at on idempotency_key (created_at);
