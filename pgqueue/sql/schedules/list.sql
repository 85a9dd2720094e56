-- All schedules with what their last job came to, and why the last due time made none, if so.
select
  schedule.name, cron, every_s, tz, schedule.task, missed, overlap, jitter_s, source, fingerprint, paused_at, resume_at,
  undeclared_at, stopped_at, next_run_at, last_run_at, last_job::text,
  coalesce(
    (select state::text from {schema}.job where job.id = last_job),
    (select state::text from {schema}.history where history.id = last_job limit 1)
  ) as last_state,
  schedule.error, last.skipped
from {schema}.schedule
left join lateral (
  select skipped from {schema}.fired where fired.schedule = schedule.name order by due_at desc limit 1
) as last on true
order by next_run_at nulls last, schedule.name
