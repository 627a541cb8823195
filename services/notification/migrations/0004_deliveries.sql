-- A test delivery is about no order.
alter table deliveries alter column order_id drop not null;

-- Held: its webhook is disabled. It is delivered when the tenant asks for it.
alter table deliveries drop constraint deliveries_status_check;
alter table deliveries add constraint deliveries_status_check
    check (status in ('waiting', 'delivered', 'failed', 'held', 'cancelled'));

-- For the lists, newest first, since ids are UUIDv7. A status is asked for when something is wrong, and almost all are
-- delivered.
create index deliveries_of_tenant on deliveries (tenant_id, id);
create index deliveries_of_webhook on deliveries (webhook_id, id);
create index deliveries_of_tenant_open on deliveries (tenant_id, id) where status <> 'delivered';
create index deliveries_of_webhook_open on deliveries (webhook_id, id) where status <> 'delivered';
