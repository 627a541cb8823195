-- A relay reads what waits by shard and topic, so that it passes over the shards of others and over topics that can't be
-- written, however many rows those have. New rows are found by the primary key.
create index outbox_by_lane on outbox (shard, topic, id);
