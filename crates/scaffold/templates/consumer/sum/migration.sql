-- Number and sum of a tenant's orders with an {{event}}, by currency.
create table {{name}} (
    tenant_id text    not null,
    currency  text    not null,
    orders    bigint  not null,
    -- Minor units. A bigint overflows after 1,024 of the largest orders.
    amount    numeric not null,
    primary key (tenant_id, currency)
);

-- The counted orders. In addition to the inbox: an order counts once, even if its event arrives under several ids.
create table {{name}}_order (
    order_id uuid primary key
);
