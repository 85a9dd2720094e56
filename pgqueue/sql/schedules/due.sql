-- Take schedules that are due, oldest first, to the end of the transaction. Those that another worker has taken are not waited for.
select
  name, cron, every_s, anchor_at, tz, task, args, kwargs, options, missed, missed_most, overlap, jitter_s,
  next_run_at as due_at, coalesce(%(now)s::timestamptz, statement_timestamp()) as now, last_job::text
from {schema}.schedule
where
  stopped_at is null and next_run_at <= coalesce(%(now)s::timestamptz, statement_timestamp())
  and name <> all (%(unable)s::text[])
order by next_run_at
limit %(most)s
for update skip locked
