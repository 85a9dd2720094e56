-- Calls that make one job in a period, whenever that job ends; and queues that are paused for a time.
-- works_with: 1

create table {schema}.period (
  key     text primary key,
  -- Until when a call of this key finds the job.
  until   timestamptz not null,
  job_id  uuid not null
);

create index period_until on {schema}.period (until);

-- When a pause ends by itself; null: when somebody says so.
alter table {schema}.queue add column resume_at timestamptz;
