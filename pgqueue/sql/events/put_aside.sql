-- Move a lane past one event that can never go, and keep the event as a dead job, in one; fenced like move.sql.
with moved as (
  update {schema}.place
  set
    tick = %(to_tick)s,
    seq = %(to_seq)s,
    number = number + 1,
    moved_at = now(),
    held_by = null,
    held_until = null,
    attempt = 0,
    error = null,
    retry_at = null
  where
    subscription = %(subscription)s and lane = %(lane)s and held_by = %(reader)s::uuid and tick = %(tick)s and seq = %(seq)s
  returning lane
),
gone as (
  select
    {schema}.uuid7() as id, now() as run_at, now() as created_at, now() as started_at, null::timestamptz as expires_at,
    %(attempt)s::integer as max_attempts, null::real as timeout_s, 0::smallint as priority, %(queue)s as queue,
    %(task)s as task, %(args)s as args, '{}' as kwargs, jsonb_build_object('pgqueue.lane', jsonb_build_array(%(subscription)s::text, lane))::text as headers,
    null as unique_key, null::text[] as gates
  from moved
)
insert into {schema}.history (
  id, claim_token, run_at, created_at, started_at, expires_at, worker, state, attempt, crashes, max_attempts,
  timeout_s, priority, queue, task, args, kwargs, headers, unique_key, gates, error
)
select
  id, 0, run_at, created_at, started_at, expires_at, null, 'dead', max_attempts, 0, max_attempts,
  timeout_s, priority, queue, task, args, kwargs, headers, unique_key, gates, %(error)s
from gone
returning id::text
