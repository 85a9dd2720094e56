-- Move schedules whose due times were answered on to the next.
update {schema}.schedule
set
  next_run_at = row.next_run_at,
  last_run_at = coalesce(row.last_run_at, schedule.last_run_at),
  last_job = coalesce(row.last_job, schedule.last_job),
  -- A pause with an end is over by its first due time.
  paused_at = null, resume_at = null,
  error = null
from json_to_recordset(%(rows)s::json) as row (name text, next_run_at timestamptz, last_run_at timestamptz, last_job uuid)
where schedule.name = row.name
