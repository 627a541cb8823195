-- For pruning. Rows are written in the order of their time, which is what BRIN is for: a few pages, whatever the size.
create index inbox_by_age on inbox using brin (received_at);
