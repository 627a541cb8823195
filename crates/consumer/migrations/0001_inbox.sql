-- Every event that a subscription has dealt with, written in the transaction of its effect: what is here was
-- done, and is not done again. An event's id is unique within its source (CloudEvents 1.0), not by itself.
create table inbox (
    subscription text        not null,
    source       text        not null,
    event_id     text        not null,
    outcome      text        not null check (outcome in ('processed', 'superseded')),
    received_at  timestamptz not null default now(),
    primary key (subscription, source, event_id)
);

-- For subscriptions in which the latest wins: the highest version applied, per subject.
create table inbox_version (
    subscription text   not null,
    subject      text   not null,
    version      bigint not null,
    primary key (subscription, subject)
);
