-- One row per running instance of a subscription. Writing it is also how an instance finds out whether the database
-- takes writes: a standby, or a server without room, answers reads.
create table instance (
    subscription text not null,
    instance text not null,
    seen_at timestamptz not null default clock_timestamp(),
    primary key (subscription, instance)
);
