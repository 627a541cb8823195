-- One credit note per order that was cancelled after it was completed. It credits the whole invoice, and carries what it
-- says, so that it is read without it.
create table credit_notes (
    id             uuid        primary key,
    order_id       uuid        not null unique,
    invoice_id     uuid        not null unique references invoices,
    invoice_number bigint      not null,
    tenant_id      text        not null,
    number         bigint      not null check (number > 0),
    customer_email text        not null,
    currency       text        not null,
    total          bigint      not null check (total > 0),
    credited_at    timestamptz not null default clock_timestamp(),
    unique (tenant_id, number)
);

-- Credit notes are numbered by themselves, without gaps too. The number is in the row of the invoices' one, so that a
-- tenant has one lock, whatever is numbered; a release that does not know it leaves it as it is.
alter table invoice_counter add column last_credit_note bigint not null default 0;

-- A tenant's documents, newest first, from any one on.
create index invoices_of_tenant on invoices (tenant_id, id desc);
create index credit_notes_of_tenant on credit_notes (tenant_id, id desc);
