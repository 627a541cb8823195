-- Messages that a subscription could not process, written in the transaction that ends their attempts. Tools and replays use
-- these rows; `<group>.dlq` gets a copy of each for other people's tools.
create table dead_letter (
    -- The order in which they died, and in which they are copied and replayed.
    seq            bigint      generated always as identity primary key,
    id             uuid        not null unique,
    subscription   text        not null,
    -- Where it first lay: with the subscription, its identity. A topic that is made anew counts from zero again, which its
    -- time tells.
    topic          text        not null,
    partition      integer     not null,
    "offset"       bigint      not null,
    "timestamp"    bigint      not null,
    key            bytea,
    value          bytea,
    header_names   text[]      not null,
    header_values  bytea[]     not null,
    -- Of its event, as far as they can be read.
    event_id       text,
    event_type     text,
    source         text,
    subject        text,
    tenant         text,
    correlation_id text,
    traceparent    text,
    -- Of its last failure.
    exception      text        not null,
    reason         text        not null,
    causes         text        not null,
    fingerprint    text        not null,
    -- Every failure, the first one first: [{at, exception, message, causes, replay}].
    attempts       jsonb       not null default '[]',
    status         text        not null default 'dead'
        check (status in ('dead', 'replaying', 'resolved', 'parked', 'discarded')),
    -- What it was before it was discarded.
    discarded_as   text,
    -- What the last replay came to.
    outcome        text
        check (outcome in ('processed', 'duplicate', 'superseded', 'ignored', 'failed', 'held')),
    -- How often it was replayed in vain.
    replays        integer     not null default 0,
    died_at        timestamptz not null default clock_timestamp(),
    closed_at      timestamptz,
    -- From then on the inbox may have forgotten the event: only `force` replays it.
    expires_at     timestamptz,
    -- None: it is not on `<group>.dlq` yet.
    copied_at      timestamptz,
    edited_by      text,
    edited_why     text,
    edited_at      timestamptz,
    value_before   bytea,
    -- Its content was erased, since it named a customer who asked for that.
    erased_at      timestamptz
);

create unique index dead_letter_of_record on dead_letter (subscription, topic, partition, "offset", "timestamp");
create index dead_letter_by_status on dead_letter (subscription, status, seq);
create index dead_letter_by_fingerprint on dead_letter (fingerprint, seq);
create index dead_letter_by_event on dead_letter (event_id) where event_id is not null;
create index dead_letter_by_subject on dead_letter (subject) where subject is not null;
create index dead_letter_by_flow on dead_letter (correlation_id) where correlation_id is not null;
create index dead_letter_to_copy on dead_letter (subscription, seq) where copied_at is null;
create index dead_letter_closed on dead_letter (subscription, closed_at) where closed_at is not null;

-- What operators say of letters of one fingerprint.
create table dead_letter_group (
    fingerprint text        primary key,
    status      text        not null check (status in ('open', 'acknowledged', 'ignored')),
    note        text,
    set_by      text        not null,
    set_at      timestamptz not null default clock_timestamp()
);

-- Up to where `<group>.dlq` was imported: an instance of an earlier release writes its letters there alone.
create table dead_letter_import (
    subscription text    not null,
    partition    integer not null,
    next_offset  bigint  not null,
    primary key (subscription, partition)
);

-- Replays and rehearsals. The selection is fixed when one is requested.
create table dead_letter_replay (
    id           uuid        primary key,
    subscription text        not null,
    rehearsal    boolean     not null,
    status       text        not null default 'queued'
        check (status in ('queued', 'running', 'paused', 'cancelled', 'done')),
    selected     bigint      not null default 0,
    -- Letters a second.
    rate         double precision,
    ramp         boolean     not null,
    -- It pauses after so many failures.
    stop_after   integer,
    force        boolean     not null,
    requested_by text        not null,
    why          text,
    -- Why it does not run, if nobody asked for that.
    note         text,
    requested_at timestamptz not null default clock_timestamp(),
    started_at   timestamptz,
    ended_at     timestamptz,
    -- The instance that runs it, and until when that holds unless it is renewed.
    leased_by    text,
    leased_until timestamptz,
    -- Rises with each lease: what an earlier holder still writes is refused.
    fence        bigint      not null default 0
);

-- One runs at a time in a group, the others queue.
create unique index dead_letter_replay_running on dead_letter_replay (subscription) where status = 'running';
create index dead_letter_replay_by_time on dead_letter_replay (subscription, requested_at);

create table dead_letter_replay_item (
    replay     uuid    not null references dead_letter_replay on delete cascade,
    letter     bigint  not null references dead_letter on delete cascade,
    -- The letter's status before.
    was        text    not null,
    -- Set before it is attempted: what is begun and has no outcome may have killed the process, and runs alone once.
    begun      boolean not null default false,
    alone      boolean not null default false,
    outcome    text
        check (outcome in ('processed', 'duplicate', 'superseded', 'ignored', 'failed', 'held')),
    reason     text,
    settled_at timestamptz,
    primary key (replay, letter)
);

create index dead_letter_replay_item_of_letter on dead_letter_replay_item (letter);
create index dead_letter_replay_item_open on dead_letter_replay_item (replay, letter) where outcome is null;

-- Every failure of a message that is not dead yet, in the form of dead_letter.attempts.
alter table attempt add column failures jsonb not null default '[]';
