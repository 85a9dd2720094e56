-- The latest failed attempts; of the error only the beginning, for one line is shown.
select
  job_id::text, left(task, 200) as task, queue, failed_at, extract(epoch from now() - failed_at)::float8 as age_s,
  attempt, left(worker_name, 200) as worker, left(cause, 100) as cause, error
from {schema}.failures
order by failed_at desc
limit %(limit)s
