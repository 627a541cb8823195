-- Rows are pruned from the oldest on, in chunks. A BRIN index has no order, so that each chunk would read all expired rows.
-- On a large table build it before the upgrade, concurrently.
create index if not exists activity_by_time on activity (at);
drop index activity_at;
