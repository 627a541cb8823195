-- How often a delivery was asked for again. A job carries the round that it is about, so that one of an earlier round
-- neither sends nor settles a later one.
alter table deliveries
    add column round integer not null default 0,
    -- Why it has failed, if no attempt says so.
    add column failed_reason text;

alter table webhooks
    -- Until then its target wants to be left alone (Retry-After).
    add column paused_until timestamptz,
    -- Failed attempts since failing_since; of a burst of them one is counted.
    add column failures integer not null default 0,
    add column failure_counted_at timestamptz;

-- For the task that looks for rows whose job was discarded. Almost all are sent.
-- On tables of many millions of rows, create these indexes by hand before the release, concurrently.
create index if not exists deliveries_waiting on deliveries (id) where status = 'waiting';
create index if not exists emails_waiting on emails (id) where sent_at is null and failed_at is null;
