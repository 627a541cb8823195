alter table webhooks
    add column status text not null default 'enabled' check (status in ('enabled', 'disabled')),
    add column disabled_at timestamptz,
    add column disabled_reason text,
    -- Since when no attempt at it has succeeded. Null: the last one did, or there was none.
    add column failing_since timestamptz,
    -- Its URL, by which it is the tenant's only one. Null for those that were registered more than once before this rule, but
    -- for the oldest: they have secrets and events of their own, which somebody relies on. Null too for what an instance of
    -- the release before registers.
    add column unique_url text;

update webhooks set unique_url = url
where id in (select distinct on (tenant_id, url) id from webhooks order by tenant_id, url, id);

create unique index webhooks_url on webhooks (tenant_id, unique_url);

-- Secrets that were replaced, with which deliveries are signed too for a while.
create table webhook_secrets (
    webhook_id  uuid        not null references webhooks on delete cascade,
    secret      text        not null,
    valid_until timestamptz not null
);

create index webhook_secrets_of_webhook on webhook_secrets (webhook_id, valid_until);

-- What happened to a webhook, for its tenant to read.
create table webhook_events (
    id         uuid        primary key,
    webhook_id uuid        not null references webhooks on delete cascade,
    type       text        not null,
    detail     text,
    created_at timestamptz not null default clock_timestamp()
);

create index webhook_events_of_webhook on webhook_events (webhook_id, id);
