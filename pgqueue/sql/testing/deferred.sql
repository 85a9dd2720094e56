-- The jobs that were deferred, alive or ended, first to last.
select
  id::text, task, args, kwargs, queue, priority,
  to_char(run_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US"+00:00"') as run_at,
  extract(epoch from run_at - created_at)::float8 as delay_s,
  unique_key, max_attempts, timeout_s::text::float8 as timeout_s,
  extract(epoch from expires_at - created_at)::float8 as expires_s,
  headers
from {schema}.jobs
order by created_at, id
