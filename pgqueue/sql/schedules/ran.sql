-- Note the job that a person had a schedule make now.
update {schema}.schedule set last_run_at = now(), last_job = %(job_id)s where name = %(name)s
