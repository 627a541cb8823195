-- What all instances of a subscription obey: an operator's pause. Nothing is consumed from Kafka while the row is there.
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
    -- When each of them was counted: a success forgets those from before it.
    letter_times timestamptz[] not null default array[clock_timestamp()],
    last_at      timestamptz not null default clock_timestamp(),
    -- Since when it is open: nothing is consumed. None: it counts.
    opened_at    timestamptz,
    -- When it was last time to try a message, which instances have looked for one since, and whether the last found none:
    -- then another one looks, since each sees only its own partitions.
    probed_at    timestamptz,
    asked        text[]      not null default '{}',
    found_none   boolean     not null default false,
    -- No instance had one: the next failure opens it again, and is no dead letter.
    half_open    boolean     not null default false,
    primary key (subscription, event_type, fingerprint)
);

alter table instance
    add column state text not null default 'running',
    add column started_at timestamptz not null default clock_timestamp(),
    -- It took most of the memory that its container may: if it ends without a word, no message is to blame.
    add column near_memory_limit boolean not null default false;

-- For pruning. With the index by blocks (inbox_by_age), one subscription reads old rows of others again and again that keep
-- theirs for longer. It stays until no release is left that prunes by it.
-- On an inbox of many millions of rows, create this index by hand before the release, concurrently.
create index if not exists inbox_by_subscription_and_age on inbox (subscription, received_at);
