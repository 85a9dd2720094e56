-- The latest failed attempts; of the error only the beginning, for one line is shown.
select
  job_id::text, left(task, 200), queue, failed_at, extract(epoch from now() - failed_at)::float8,
  attempt, left(worker_name, 200), left(cause, 100), error
from {schema}.failures
order by failed_at desc
limit %(limit)s
