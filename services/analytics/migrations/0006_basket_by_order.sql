-- A cancelled order's basket does not count, so that reports need the order of each row. Neither report touches the table.
-- On a large table build it before the upgrade, concurrently.
create index if not exists basket_by_order on basket (generation, tenant_id, order_id) include (sku, quantity);
drop index basket_of_tenant;
