-- Calls that make one job in a period, whenever that job ends.
-- works_with: 1

create table {schema}.period (
  key     text primary key,
  -- Until when a call of this key finds the job.
  until   timestamptz not null,
  job_id  uuid not null
);

create index period_until on {schema}.period (until);
