update emails set id = (
    lpad(to_hex(floor(extract(epoch from created_at) * 1000)::bigint), 12, '0')
    || '7' || substr(replace(gen_random_uuid()::text, '-', ''), 14)
)::uuid
where id is null;

alter table emails alter column id set not null;

create unique index emails_id on emails (id);
create index emails_of_tenant on emails (tenant_id, id);
create index emails_of_tenant_open on emails (tenant_id, id) where sent_at is null;
