-- What became of each replay of a dead letter, written with the inbox row, no-ops included: so an operator who
-- replayed something is told, and a dead letter that was replayed well is not offered again.
create table replay (
    id           text        primary key,
    subscription text        not null,
    -- Where the record first lay: with the subscription, the identity of the dead letter.
    topic        text        not null,
    partition    integer     not null,
    "offset"     bigint      not null,
    outcome      text        not null check (outcome in ('processed', 'duplicate', 'superseded', 'failed')),
    -- Why it failed again.
    reason       text,
    settled_at   timestamptz not null default clock_timestamp()
);

create index replay_of on replay (subscription, settled_at);
