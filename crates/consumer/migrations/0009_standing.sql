-- What all instances of a subscription obey: an operator's pause. Nothing is consumed while the row is there.
create table pause (
    subscription text        primary key,
    paused_by    text        not null,
    why          text        not null,
    since        timestamptz not null default clock_timestamp()
);

-- Messages of a type that used up their retries for one reason, since the last success of that type on any instance.
create table breaker (
    subscription text        not null,
    event_type   text        not null,
    fingerprint  text        not null,
    -- What the first of them failed with.
    reason       text        not null,
    letters      integer     not null default 1,
    last_at      timestamptz not null default clock_timestamp(),
    -- Since when it is open: nothing is consumed. None: it counts.
    opened_at    timestamptz,
    -- When an instance last took it upon itself to try a message.
    probed_at    timestamptz,
    primary key (subscription, event_type, fingerprint)
);

alter table instance
    add column state text not null default 'running',
    add column started_at timestamptz not null default clock_timestamp();

-- For pruning. The index by blocks (inbox_by_age) serves only as long as rows lie in the order of their time, which ends
-- when the space of pruned ones is used again. It stays until no release is left that prunes by it.
create index if not exists inbox_by_subscription_and_age on inbox (subscription, received_at);
