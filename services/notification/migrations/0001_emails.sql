-- One e-mail per order and kind. The inbox keeps an event from being handled twice; the key keeps a customer from
-- being written to twice, whatever events say.
create table emails (
    order_id        uuid        not null,
    kind            text        not null check (kind in ('confirmation', 'receipt')),
    tenant_id       text        not null,
    recipient       text        not null,
    subject         text        not null,
    body            text        not null,
    message_id      text        not null,
    correlation_id  text        not null,
    -- The span that wrote it, of which sending it is a child.
    traceparent     text,
    created_at      timestamptz not null default clock_timestamp(),
    attempts        integer     not null default 0,
    next_attempt_at timestamptz not null default clock_timestamp(),
    last_error      text,
    sent_at         timestamptz,
    -- Given up: it can't ever be sent. last_error says why.
    failed_at       timestamptz,
    primary key (order_id, kind),
    check (sent_at is null or failed_at is null)
);

-- What is to be sent, the longest due first. Holds only what is unsent, however many were sent.
create index emails_unsent on emails (next_attempt_at) where sent_at is null and failed_at is null;
