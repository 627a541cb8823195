-- Its worker died while it ran beside others, so it is not known which of them killed it. It runs alone next. The flag stands
-- while it does, and tells, if that worker dies too, that the job is to blame.
alter table job add column suspect boolean not null default false;

create index job_suspect on job (run_at) where suspect and failed_at is null;
