-- The event that caused this one. Null: a request caused it, its producer named none, or an earlier release wrote the
-- row.
alter table history add column causation_id text;
