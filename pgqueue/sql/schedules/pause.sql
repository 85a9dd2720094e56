-- Pause a schedule: until somebody resumes it, or until a time after which it is next due.
update {schema}.schedule
set paused_at = now(), resume_at = %(resume_at)s, next_run_at = %(next_run_at)s
where name = %(name)s
