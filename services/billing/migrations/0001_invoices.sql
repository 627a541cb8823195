-- One invoice per completed order. The inbox keeps an event from being handled twice; the unique order keeps an
-- order from being invoiced twice, whatever events say.
create table invoices (
    id             uuid        primary key,
    order_id       uuid        not null unique,
    tenant_id      text        not null,
    number         bigint      not null check (number > 0),
    customer_email text        not null,
    currency       text        not null,
    total          bigint      not null check (total > 0),
    issued_at      timestamptz not null default clock_timestamp(),
    unique (tenant_id, number)
);

-- The last number given per tenant. A row and not a sequence: a sequence leaves a gap when a transaction rolls
-- back, and invoice numbers must have none. Its lock makes the invoices of one tenant wait for each other, so it
-- is taken after all that could be done before, and the transaction ends soon after.
create table invoice_counter (
    tenant_id text   primary key,
    last      bigint not null
);
