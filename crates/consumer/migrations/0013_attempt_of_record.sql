-- The time of the message, in milliseconds since 1970, or -1 if it is unknown. With its place it is the message's identity, as
-- in dead_letter: a topic that is made anew counts from zero again.
alter table attempt add column "timestamp" bigint not null default -1;
