-- Ignored: no handler is for the type of the event, and its subscription skips such types.
alter table replay drop constraint replay_outcome_check;
alter table replay add constraint replay_outcome_check
    check (outcome in ('processed', 'duplicate', 'superseded', 'failed', 'parked', 'ignored'));
