-- What was bought, a row for each sku of a completed order.
create table basket (
    -- Of the subscription that wrote it: a new one writes beside the old one until it has caught up.
    generation integer not null,
    order_id   uuid    not null,
    sku        text    not null,
    tenant_id  text    not null,
    quantity   bigint  not null,
    primary key (generation, order_id, sku)
);

create index basket_of_tenant on basket (generation, tenant_id, sku) include (quantity);
