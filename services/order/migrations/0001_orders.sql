-- Orders as they are now. What happened to them is said in events; only the newest state is kept here.
create table orders (
    -- UUIDv7, made by the service: ids made later sort later, so "newest first" needs no second sort key.
    id             uuid primary key,
    tenant_id      text        not null,
    -- Counts the changes from 1. It guards every update, is the ETag, and the sequence of the events.
    version        bigint      not null check (version >= 1),
    status         text        not null check (status in ('open', 'completed')),
    customer_email text        not null,
    currency       text        not null,
    -- The lines are read and written only with their order, never searched: a column and not a table, so that
    -- a change is one row and one statement.
    items          jsonb       not null,
    -- Sum of the lines in minor units. The service computes it; at most 2^53-1 (RFC 7493, 2.2).
    total          bigint      not null check (total between 1 and 9007199254740991),
    -- By the service's clock, since the event says the same and is checked before the row is written.
    created_at     timestamptz not null,
    completed_at   timestamptz,
    check ((status = 'completed') = (completed_at is not null))
);

-- A tenant's orders, newest first, from any one on.
create index orders_of_tenant on orders (tenant_id, id desc);
