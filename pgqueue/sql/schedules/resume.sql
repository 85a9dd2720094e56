-- Resume a schedule: it is next due after now.
update {schema}.schedule
set paused_at = null, resume_at = null, next_run_at = %(next_run_at)s
where name = %(name)s
