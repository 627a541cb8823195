-- E-mails are sent by jobs: when the next attempt is due, and who makes it, is the job's.
alter table emails drop constraint emails_kind_check;
alter table emails add constraint emails_kind_check check (kind in ('acknowledgement', 'confirmation', 'receipt'));

-- What the loop before had not sent yet.
insert into job (id, kind, payload, subject, correlation_id, traceparent)
select gen_random_uuid(), 'send-email', json_build_object('order_id', order_id, 'kind', kind), order_id,
       correlation_id, traceparent
from emails where sent_at is null and failed_at is null;

drop index emails_unsent;
alter table emails drop column next_attempt_at, drop column correlation_id, drop column traceparent;

-- Where tenants want to be told what happens to their orders.
create table webhooks (
    id         uuid        primary key,
    tenant_id  text        not null,
    url        text        not null,
    -- Event types.
    events     text[]      not null,
    -- The key of its signatures, as the tenant has it.
    secret     text        not null,
    created_at timestamptz not null default clock_timestamp()
);

create index webhooks_of_tenant on webhooks (tenant_id, id);

-- An event that is told to a webhook.
create table deliveries (
    id           uuid        primary key,
    webhook_id   uuid        not null,
    tenant_id    text        not null,
    order_id     uuid        not null,
    event_source text        not null,
    event_id     text        not null,
    event_type   text        not null,
    url          text        not null,
    body         text        not null,
    -- Cancelled: its webhook was deleted before it was told.
    status       text        not null default 'waiting' check (status in ('waiting', 'delivered', 'failed', 'cancelled')),
    -- [{"attempt": 1, "at": "...", "ms": 12, "status": 500, "error": "..."}]
    attempts     jsonb       not null default '[]',
    created_at   timestamptz not null default clock_timestamp(),
    delivered_at timestamptz,
    -- Behind the inbox: an event is told to a webhook once.
    unique (webhook_id, event_source, event_id)
);

create index deliveries_of_order on deliveries (order_id, id);
