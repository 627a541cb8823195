-- An id of its own, by which lists have an order and old e-mails are found: UUIDv7, as everywhere. The default is for
-- instances of the release before. Those that are there get theirs in the next migration, which locks no other row.
alter table emails add column id uuid;
alter table emails alter column id set default (
    lpad(to_hex(floor(extract(epoch from clock_timestamp()) * 1000)::bigint), 12, '0')
    || '7' || substr(replace(gen_random_uuid()::text, '-', ''), 14)
)::uuid;
