-- What the orders of a tenant come to, in each currency, of which an {{event}} was heard.
create table {{name}} (
    tenant_id text   not null,
    currency  text   not null,
    orders    bigint not null,
    -- Minor units.
    amount    bigint not null,
    primary key (tenant_id, currency)
);

-- The orders that are counted. Behind the inbox: an order adds once, under however many ids it is told.
create table {{name}}_order (
    order_id uuid primary key
);
