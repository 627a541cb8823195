-- What happened in flows, for `GET /flows/{id}`: a row for each flow, instance and flush. A ring of slots: one is written
-- until it is three hours old or an eighth of the allowed size, then the oldest is truncated and written. Deleting row by row
-- would write as much again as inserting.
--
-- Unlogged, since steps are kept for a day and may be lost: nothing depends on them, and a commit need not wait for the disk.
-- A crash of the server empties it.
create table flow_step (
    slot           smallint    not null,
    at             timestamptz not null default clock_timestamp(),
    correlation_id text        not null,
    -- Which process.
    instance       text        not null,
    -- What it is found by: its correlation id, and subjects and event ids of its steps.
    keys           text[]      not null,
    -- JSON objects with commas between them; text and not jsonb, since it is written once and rarely read.
    steps          text        not null
) partition by list (slot);

-- Nothing in it is updated, and what is old is truncated: there is nothing to vacuum.
create unlogged table flow_step_0 partition of flow_step for values in (0) with (autovacuum_enabled = off, toast.autovacuum_enabled = off);
create unlogged table flow_step_1 partition of flow_step for values in (1) with (autovacuum_enabled = off, toast.autovacuum_enabled = off);
create unlogged table flow_step_2 partition of flow_step for values in (2) with (autovacuum_enabled = off, toast.autovacuum_enabled = off);
create unlogged table flow_step_3 partition of flow_step for values in (3) with (autovacuum_enabled = off, toast.autovacuum_enabled = off);
create unlogged table flow_step_4 partition of flow_step for values in (4) with (autovacuum_enabled = off, toast.autovacuum_enabled = off);
create unlogged table flow_step_5 partition of flow_step for values in (5) with (autovacuum_enabled = off, toast.autovacuum_enabled = off);
create unlogged table flow_step_6 partition of flow_step for values in (6) with (autovacuum_enabled = off, toast.autovacuum_enabled = off);
create unlogged table flow_step_7 partition of flow_step for values in (7) with (autovacuum_enabled = off, toast.autovacuum_enabled = off);

create index flow_step_by_key on flow_step using gin (keys);

-- Since when each slot is written. The one that was opened last is written now.
create table flow_step_slot (
    slot      smallint primary key,
    opened_at timestamptz
);

insert into flow_step_slot (slot, opened_at)
select slot, case when slot = 0 then clock_timestamp() end from generate_series(0, 7) slot;
