-- Record a batch of attempts that did not succeed: to be tried again, released, dead or cancelled. Fenced like finish.sql.
with verdict as (
  select *
  from unnest(
    %(ids)s::uuid[], %(tokens)s::bigint[], %(states)s::{schema}.job_state[], %(delays)s::float8[], %(refunds)s::integer[],
    %(crashes)s::integer[], %(causes)s::text[], %(errors)s::text[], %(tracebacks)s::text[], %(gates)s::text[]
  ) as verdict (id, claim_token, state, delay_s, refund, crash, cause, error, traceback, gates)
),
held as (
  select
    job.id, verdict.delay_s, verdict.refund, verdict.crash, verdict.cause, verdict.error, verdict.traceback, verdict.gates,
    -- A cancel that was asked for while it ran ends the job now; a verdict to run it again does not outlive it.
    case when job.cancel_requested_at is not null and verdict.state in ('scheduled', 'queued', 'waiting')
      then 'cancelled' else verdict.state end as state,
    case when job.cancel_requested_at is not null and verdict.state <> 'dead'
      then job.cancel_reason else verdict.error end as reason
  from verdict
  join {schema}.job on
    job.id = any (array[verdict.id])  -- see steady_plans.sql
    and job.claim_token = verdict.claim_token
    and coalesce(job.state = 'running' and job.worker = %(worker)s, false)
  order by verdict.id
  for update of job
),
ended as (
  delete from {schema}.job
  using held
  where job.id = any (array[held.id]) and held.state in ('dead', 'cancelled')
  returning
    job.*, held.state as end_state, held.refund, held.crash, held.reason, held.cause as why, held.error, held.traceback
),
kept as (
  insert into {schema}.history (
    id, claim_token, run_at, created_at, started_at, expires_at, worker, state, attempt, crashes, max_attempts,
    timeout_s, priority, queue, task, args, kwargs, headers, unique_key, gates, error
  )
  select
    id, claim_token, run_at, created_at, started_at, expires_at, worker, end_state, attempt - refund, crashes + crash,
    max_attempts, timeout_s, priority, queue, task, args, kwargs, headers, unique_key, gates, reason
  from ended
),
-- The line behind a dead job stops, where its rule says so.
halted as (
  insert into {schema}.gate as kept (name, closed_at, closed_by, closed_why)
  select distinct on (gates[1])
    gates[1], statement_timestamp(), 'a dead job', 'job ' || id::text || ' is dead: retry it, or resume without it'
  from ended
  where
    gates is not null and end_state = 'dead'
    and exists (select from {schema}.gate where name = split_part(gates[1], '=', 1) and halts)
  on conflict (name) do update
    set closed_at = excluded.closed_at, closed_until = null, closed_by = excluded.closed_by, closed_why = excluded.closed_why
),
returned as (
  update {schema}.job
  set
    state = held.state,
    -- A released job keeps its place; one that waited out a delay of zero goes to the end.
    seq = case when held.refund = 1 then job.seq else nextval('{schema}.job_seq') end,
    run_at = case when held.state = 'scheduled' then now() + held.delay_s * interval '1 second' else job.run_at end,
    -- One that waits is at the first of the gates that it was found to have, or has anyway.
    gates = case when held.state = 'waiting' then coalesce(held.gates::text[], job.gates) else job.gates end,
    gate = case
      when held.state = 'waiting' then 0
      when job.gates is null or held.state = 'queued' then job.gate
      -- A failed attempt gives up its places, but for that at a first gate whose rule keeps them.
      when not exists (select from {schema}.gate where name = split_part(job.gates[1], '=', 1) and keeps) then 0
      when cardinality(job.gates) = 1 then job.gate
      else 2
    end,
    attempt = job.attempt - held.refund,
    crashes = job.crashes + held.crash,
    worker = null,
    progress = null,
    progress_note = null
  from held
  where job.id = any (array[held.id]) and held.state in ('scheduled', 'queued', 'waiting')
  returning
    job.id, job.queue, job.state, job.task, job.attempt + held.refund as attempt, job.claim_token, job.started_at,
    held.cause, held.error, held.traceback
),
settled as (
  select id, queue, task, attempt, claim_token, started_at, state, cause, error, traceback from returned
  union all
  select id, queue, task, attempt, claim_token, started_at, end_state, why, error, traceback from ended
),
failed as (
  insert into {schema}.attempt (job_id, claim_token, started_at, attempt, task, queue, worker_name, cause, error, traceback)
  select id, claim_token, started_at, attempt, task, queue, %(worker_name)s, cause, coalesce(error, ''), traceback
  from settled
  where cause is not null
),
doorbell as (
  select count(pg_notify('{channel}', queue))
  from (select distinct queue from returned where state = 'queued') as freed
  where pg_notification_queue_usage() < 0.5 and exists (
    select
    from {schema}.worker
    where sleeping and state = 'alive' and id <> %(worker)s
      and (worker.queues is null or freed.queue = any (worker.queues))
  )
),
waiter as (
  select count(pg_notify('{results_channel}', ''))
  from (select from ended join {schema}.awaited on awaited.job_id = ended.id limit 1) as awaiting
  where pg_notification_queue_usage() < 0.5
)
select id::text, state::text, task, (select count from doorbell) + (select count from waiter) as bells
from settled
