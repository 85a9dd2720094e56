-- Look at jobs, newest first; every condition may be null.
select
  id::text, state::text, queue, priority, task, args, kwargs, attempt, max_attempts, crashes,
  created_at, run_at, started_at, finished_at, worker::text, unique_key, headers,
  progress::text::float8, progress_note, cancel_requested_at is not null, result, error
from {schema}.jobs
where
  (%(ids)s::uuid[] is null or id = any (%(ids)s))
  and (%(state)s::{schema}.job_state is null or state = %(state)s)
  and (%(queue)s::text is null or queue = %(queue)s)
  and (%(task)s::text is null or task = %(task)s)
order by id desc
limit %(limit)s
