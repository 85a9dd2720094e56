-- Breakers: a task whose runs fail too often is held up for a while, and then tried out with one job.
-- works_with: 1

alter table {schema}.gate
  -- As code declares it: the gate closes for break_rest_s once, of at least break_of runs within break_per_s, this share has failed.
  add column break_share float8 check (break_share > 0 and break_share <= 1),
  add column break_of integer check (break_of > 0),
  add column break_per_s float8 check (break_per_s > 0),
  add column break_rest_s float8 check (break_rest_s > 0),
  -- Since the breaker has closed it: from when on one job at a time is tried. Null: the breaker lets all through.
  add column half_open_at timestamptz,
  -- That job, when it was let through, and the attempt that it had then.
  add column trial uuid,
  add column trial_at timestamptz,
  add column trial_attempt integer,
  -- Runs from before do not count: it was opened then.
  add column break_from timestamptz;

-- How the runs of a task with a breaker ended, as sums of each worker over a twentieth of the time that counts.
create table {schema}.breaker (
  gate    text collate "C" not null,
  worker  uuid not null,
  at      timestamptz not null,
  ended   integer not null,
  failed  integer not null,
  primary key (gate, worker, at)
) with (fillfactor = 50, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0.1, autovacuum_vacuum_cost_delay = 0);
