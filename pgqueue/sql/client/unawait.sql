-- These jobs are no longer waited for here.
delete from {schema}.awaited
where job_id = any (%(ids)s::uuid[])
