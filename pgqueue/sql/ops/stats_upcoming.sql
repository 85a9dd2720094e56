-- The scheduled jobs that fall due next.
select
  id::text, left(task, 200) as task, queue, run_at, extract(epoch from run_at - now())::float8 as due_in_s, attempt, max_attempts
from {schema}.job
where state = 'scheduled'
order by run_at
limit %(limit)s
