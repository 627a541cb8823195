-- It was restarted while it ran: when its attempt has ended, however it ends, the job waits anew, with the payload that the
-- restart gave it. A claim takes the mark away, since it has read that payload.
alter table job add column again boolean not null default false;
