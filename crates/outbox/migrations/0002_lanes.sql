-- A relay reads what waits by shard and topic, so that it passes over the shards of others and over topics that can't be
-- written, however many rows those have. New rows are found by the primary key.
-- With a backlog of many rows, create this index by hand before the release, concurrently.
create index if not exists outbox_by_lane on outbox (shard, topic, id);
