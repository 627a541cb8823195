-- Of the message's event, for those who look for what a flow waits for. The table holds only what is being retried, so that
-- it needs no index for that.
alter table attempt add column event_id text, add column subject text, add column correlation_id text;
