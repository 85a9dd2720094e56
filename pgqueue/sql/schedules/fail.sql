-- Note why a schedule cannot make its job, and move it on.
update {schema}.schedule
set error = %(error)s, next_run_at = %(next_run_at)s, last_run_at = now()
where name = %(name)s and next_run_at <= now()
