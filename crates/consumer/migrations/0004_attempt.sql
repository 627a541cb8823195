-- Attempts at messages that failed, or may have ended the process. Written outside of the transaction that rolls back,
-- and removed in the one that commits: so neither a restart nor a rebalance gives a message its retries anew.
create table attempt (
    subscription text        not null,
    topic        text        not null,
    partition    integer     not null,
    "offset"     bigint      not null,
    attempts     integer     not null,
    -- Why the last one failed; none: it is not known that it ended.
    reason       text,
    last_at      timestamptz not null default clock_timestamp(),
    primary key (subscription, topic, partition, "offset")
);

-- Which instance works on a partition. A row that an instance left behind says that it did not end by itself.
create table consuming (
    subscription text        not null,
    topic        text        not null,
    partition    integer     not null,
    instance     text        not null,
    since        timestamptz not null default clock_timestamp(),
    primary key (subscription, topic, partition)
);
