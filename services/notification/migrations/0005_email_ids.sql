-- An id of its own, by which lists have an order and old e-mails are found: UUIDv7, as everywhere. The default is for
-- instances of the release before.
alter table emails add column id uuid;
alter table emails alter column id set default (
    lpad(to_hex(floor(extract(epoch from clock_timestamp()) * 1000)::bigint), 12, '0')
    || '7' || substr(replace(gen_random_uuid()::text, '-', ''), 14)
)::uuid;

update emails set id = (
    lpad(to_hex(floor(extract(epoch from created_at) * 1000)::bigint), 12, '0')
    || '7' || substr(replace(gen_random_uuid()::text, '-', ''), 14)
)::uuid;

alter table emails alter column id set not null;

create unique index emails_id on emails (id);
create index emails_of_tenant on emails (tenant_id, id);
create index emails_of_tenant_open on emails (tenant_id, id) where sent_at is null;
