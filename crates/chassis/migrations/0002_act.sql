-- What operators did on the admin port. Written before the act, in a statement of its own, and completed after it: an act
-- without an outcome was cut off, and may or may not have been done.
create table act (
    id      bigint      generated always as identity primary key,
    at      timestamptz not null default clock_timestamp(),
    -- Name of the operator.
    by      text        not null,
    act     text        not null,
    -- What it was done to.
    target  text        not null,
    why     text,
    outcome text
);

create index act_by_operator on act (by, id);
-- For pruning.
create index act_at on act (at);
