-- One job, alive or ended.
select
  id::text, state::text, queue, priority, task, args, kwargs, attempt, max_attempts, crashes,
  created_at, run_at, started_at, finished_at, worker::text, unique_key, headers,
  progress::text::float8, progress_note, cancel_requested_at is not null as cancel_requested, result, error
from {schema}.jobs
where id = %(id)s
