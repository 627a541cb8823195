-- Who asked for what, and what came of it. Nothing reads it but people; written many rows at once, after the responses.
create table activity (
    at             timestamptz      not null,
    -- Null: somebody without a key that we know.
    tenant_id      text,
    method         text             not null,
    -- Null: there is nothing at the path.
    route          text,
    path           text             not null,
    status         smallint         not null,
    ms             double precision not null,
    correlation_id text             not null
);

-- For pruning by age, and for looking at a time: rows come in this order, so a few pages suffice.
create index activity_at on activity using brin (at);

-- A customer's orders, newest first.
create index orders_of_customer on orders (tenant_id, customer_email, id desc);
