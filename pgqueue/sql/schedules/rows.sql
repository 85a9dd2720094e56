-- All schedules, as they are now.
select
  schedule.name, cron, every_s, anchor_at, tz, task, args, kwargs, options, missed, missed_most, overlap, jitter_s,
  paused_at, resume_at, source, fingerprint, undeclared_at, stopped_at, next_run_at, last_run_at,
  last_job::text, error, statement_timestamp() as now
from {schema}.schedule
where %(name)s::text is null or schedule.name = %(name)s
order by schedule.name
