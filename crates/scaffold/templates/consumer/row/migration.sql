-- A row for each order of which an {{event}} was heard.
create table {{name}} (
    -- Behind the inbox: an order has one row, under however many ids it is told.
    order_id  uuid   primary key,
    tenant_id text   not null,
    currency  text   not null,
    -- Minor units.
    amount    bigint not null
);

-- A tenant's rows, without touching the table.
create index {{name}}_of_tenant on {{name}} (tenant_id, currency) include (amount);
