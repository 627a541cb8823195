-- Events that are said but not yet published. A row is written in the transaction of what it tells of, and
-- deleted when Kafka has it; so the table is empty but for what waits.
create table outbox (
    -- The relay publishes in this order. Ids are given before commit, so they become visible out of order:
    -- rows of one key do not, because their writer holds the lock of the order meanwhile.
    id         bigint generated always as identity primary key,
    shard      smallint    not null,
    topic      text        not null,
    key        text        not null,
    -- Headers of the record by name; json and not jsonb, since it is written once and read once.
    headers    json        not null,
    payload    bytea       not null,
    created_at timestamptz not null default clock_timestamp()
);

-- Rows live for milliseconds, so the table is all churn: vacuum it by the number of dead rows, not by a share.
alter table outbox set (
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_insert_threshold = -1
);
