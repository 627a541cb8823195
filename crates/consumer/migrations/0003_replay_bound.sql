-- When the record was written where it first lay: a topic that is made anew counts its offsets from zero again.
alter table replay add column "timestamp" bigint not null default -1;

-- Parked: it failed so often that it is not tried again.
alter table replay drop constraint replay_outcome_check;
alter table replay add constraint replay_outcome_check
    check (outcome in ('processed', 'duplicate', 'superseded', 'failed', 'parked'));

create index replay_of_record on replay (subscription, topic, partition, "offset");
