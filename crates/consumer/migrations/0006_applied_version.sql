-- For subscriptions in which the latest wins: the highest version applied, per subject and per source that counts it. Two
-- publishers that write about the same subject count independently. The rows of inbox_version, which knew no source, stay
-- as a floor for every source: what was applied before this table existed must not be applied again.
create table applied_version (
    subscription text   not null,
    source       text   not null,
    subject      text   not null,
    version      bigint not null,
    primary key (subscription, source, subject)
);
