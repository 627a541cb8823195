-- Null: the order was not cancelled. The latest event says so of the whole order, whatever came before.
alter table orders add column cancelled_at timestamptz;

-- As orders_of_tenant, which it replaces: neither the revenue nor the funnel touches the table.
create index orders_of_tenant_by_state on orders (tenant_id, completed_at, cancelled_at) include (currency, total);
drop index orders_of_tenant;

-- Orders whose baskets count no longer. A row of its own and not a deletion: the cancellation may come before the
-- completion, or be handled beside it.
create table basket_cancelled (
    generation integer not null,
    order_id   uuid    not null,
    primary key (generation, order_id)
);
