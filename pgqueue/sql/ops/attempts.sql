-- The failed attempts of one job, first to last.
select attempt, started_at, failed_at, worker_name as worker, cause, error, traceback
from {schema}.attempt
where job_id = %(id)s
order by failed_at
