-- An event of another producer may have no version; it is in the history all the same.
alter table history alter column version drop not null;
