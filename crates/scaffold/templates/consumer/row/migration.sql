-- A row for each order with an {{event}}.
create table {{name}} (
    -- In addition to the inbox: an order has one row, even if its event arrives under several ids.
    order_id  uuid   primary key,
    tenant_id text   not null,
    currency  text   not null,
    -- Minor units.
    amount    bigint not null
);

-- For queries of a tenant's rows by an index-only scan.
create index {{name}}_of_tenant on {{name}} (tenant_id, currency) include (amount);
