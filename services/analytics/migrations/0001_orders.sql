-- The orders as the latest event told of them: only what the numbers need, and no customer's data. A row is written
-- whole from one event, so which events came before makes no difference.
create table orders (
    order_id     uuid        primary key,
    tenant_id    text        not null,
    -- The inbox applies only what is newer; the version here keeps that true whatever feeds the table.
    version      bigint      not null,
    currency     text        not null,
    total        bigint      not null,
    created_at   timestamptz not null,
    -- Null: the order is open.
    completed_at timestamptz
);

-- A tenant's revenue over some days, and its funnel, without touching the table.
create index orders_of_tenant on orders (tenant_id, completed_at) include (currency, total);
