-- Put events of a batch aside that its task does not want: each becomes a dead job, and is left out when the batch is read again.
-- Fenced as batch_failed.sql.
with left_out as (
  update {schema}.place
  set skipped = coalesce(skipped, '{}') || %(seqs)s::bigint[]
  where
    subscription = %(subscription)s and lane = %(lane)s and tick = %(tick)s and seq = %(seq)s
    and exists (
      select
      from {schema}.job
      where id = %(id)s and claim_token = %(token)s and coalesce(state = 'running' and worker = %(worker)s, false)
    )
  returning lane
),
gone as (
  select
    {schema}.uuid7() as id, now() as run_at, now() as created_at, now() as started_at, null::timestamptz as expires_at,
    job.max_attempts, job.timeout_s, job.priority, job.queue, job.task, aside.args, '{}' as kwargs, job.headers,
    null as unique_key, null::text[] as gates
  from left_out, {schema}.job, unnest(%(args)s::text[]) as aside (args)
  where job.id = %(id)s
)
insert into {schema}.history (
  id, claim_token, run_at, created_at, started_at, expires_at, worker, state, attempt, crashes, max_attempts,
  timeout_s, priority, queue, task, args, kwargs, headers, unique_key, gates, error
)
select
  id, 0, run_at, created_at, started_at, expires_at, null, 'dead', 1, 0, max_attempts,
  timeout_s, priority, queue, task, args, kwargs, headers, unique_key, gates, %(error)s
from gone
returning id::text
