-- Record a batch of successes: each counts only if the claim token and the worker still match. No result: nothing is kept.
with done as (
  -- No result is an empty text: a null in the list would be the word NULL where the session has array_nulls off.
  select id, claim_token, nullif(result, '') as result
  from unnest(%(ids)s::uuid[], %(tokens)s::bigint[], %(results)s::text[]) as done (id, claim_token, result)
),
gone as (
  delete from {schema}.job
  using done
  where
    -- Found by id and by nothing else: hidden in coalesce, the fence cannot tempt the planner to read the index of running
    -- jobs, where someone's old snapshot keeps every job of the last hours. The array of one is explained in steady_plans.sql.
    job.id = any (array[done.id])
    and job.claim_token = done.claim_token
    and coalesce(job.state = 'running' and job.worker = %(worker)s, false)
  returning job.*, done.result
),
kept as (
  insert into {schema}.history (
    id, claim_token, run_at, created_at, started_at, expires_at, worker, state, attempt, crashes, max_attempts,
    timeout_s, priority, queue, task, args, kwargs, headers, unique_key, gates, result
  )
  select
    id, claim_token, run_at, created_at, started_at, expires_at, worker, 'succeeded', attempt, crashes, max_attempts,
    timeout_s, priority, queue, task, args, kwargs, headers, unique_key, gates, result
  from gone
  where result is not null
)
select
  id::text,
  (
    -- A program waits for one of them: a single doorbell for the batch.
    select count(pg_notify('{results_channel}', ''))
    from (
      select
      from gone
      join {schema}.awaited on awaited.job_id = gone.id
      where exists (select from {schema}.awaited)  -- asked once: mostly there is no waiter, and then no row is looked for
      limit 1
    ) as waiter
    where pg_notification_queue_usage() < 0.5
  ) as bells,
  current_setting('pgqueue.attempt', true) as attempt
from gone
