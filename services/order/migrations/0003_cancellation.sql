-- An order may be cancelled, open or completed. Its status follows from what happened to it: one rule for all three, so
-- that a release from before cancellation, which knows two of them, can't make an open or a completed order of a
-- cancelled one. Such a write fails and leaves the row as it is.
--
-- Not validated here: that reads the whole table, and this statement locks everybody out for as long as it lasts.
alter table orders
    add column cancelled_at timestamptz,
    drop constraint orders_status_check,
    drop constraint orders_check,
    add constraint orders_status check (
        status = case when cancelled_at is not null then 'cancelled'
                      when completed_at is not null then 'completed'
                      else 'open' end) not valid;
