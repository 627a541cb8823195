-- Reads the table while others read and write it.
alter table orders validate constraint orders_status;
