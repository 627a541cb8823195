-- What was heard of an order: an event each, whenever it came.
create table history (
    order_id       uuid        not null,
    tenant_id      text        not null,
    version        bigint      not null,
    event_type     text        not null,
    source         text        not null,
    event_id       text        not null,
    correlation_id text        not null,
    -- As the event says it; null: it does not.
    at             timestamptz,
    received_at    timestamptz not null default clock_timestamp(),
    -- Behind the inbox: an event is one row.
    primary key (order_id, source, event_id)
);

-- What other services tell that is no event: each once.
create table tracked (
    order_id  uuid        not null,
    event     text        not null,
    tenant_id text        not null,
    at        timestamptz not null,
    primary key (order_id, event)
);

create index tracked_of_tenant on tracked (tenant_id, event);
