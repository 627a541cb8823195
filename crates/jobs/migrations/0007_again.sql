-- It was restarted while it ran: when its attempt has ended, however it ends, the job waits anew, with the payload that the
-- restart gave it. A claim takes the mark away, since it has read that payload.
alter table job
    add column again boolean not null default false,
    -- How many workers died while they ran it beside others: so much longer it runs alone next time. An operator's retry and a
    -- restart forget them.
    add column suspicions integer not null default 0;
