-- Since when its attempts are not counted, because the database refused them or another transaction was in the way.
alter table job add column postponed_since timestamptz;
