-- Rescue the jobs of dead workers. The larger token is the revocation; a job that crashed too often is dead.
with orphan as (
  select job.id, job.crashes + 1 as crashes, job.cancel_requested_at is not null as cancelled
  from {schema}.job
  join {schema}.worker on worker.id = job.worker
  where
    job.state = 'running' and worker.state = 'dead' and job.worker = any (%(workers)s::uuid[])
  order by job.id
  limit 1000
  for update of job skip locked
),
ended as (
  delete from {schema}.job
  using orphan
  where job.id = orphan.id and (orphan.crashes >= %(crash_cap)s or orphan.cancelled)
  returning job.*, orphan.cancelled, orphan.crashes as crash_count
),
kept as (
  insert into {schema}.history (
    id, claim_token, run_at, created_at, started_at, expires_at, worker, state, attempt, crashes, max_attempts,
    timeout_s, priority, queue, task, args, kwargs, headers, unique_key, gates, error
  )
  select
    id, claim_token + 1, run_at, created_at, started_at, expires_at, worker,
    case when cancelled then 'cancelled' else 'dead' end::{schema}.job_state,
    attempt - 1, crash_count, max_attempts, timeout_s, priority, queue, task, args, kwargs, headers, unique_key, gates,
    case when cancelled then cancel_reason
      else 'quarantined: its worker died ' || crash_count || ' times while running it' end
  from ended
),
-- The line behind a dead job stops, where its rule says so.
halted as (
  insert into {schema}.gate as kept (name, closed_at, closed_by, closed_why)
  select distinct on (gates[1])
    gates[1], statement_timestamp(), 'a dead job', 'job ' || id::text || ' is dead: retry it, or resume without it'
  from ended
  where
    gates is not null and not cancelled
    and exists (select from {schema}.gate where name = split_part(gates[1], '=', 1) and halts)
  on conflict (name) do update
    set closed_at = excluded.closed_at, closed_until = null, closed_by = excluded.closed_by, closed_why = excluded.closed_why
),
returned as (
  update {schema}.job
  set
    state = 'queued',
    claim_token = claim_token + 1,
    attempt = attempt - 1,
    crashes = orphan.crashes,
    worker = null,
    progress = null,
    progress_note = null
  from orphan
  where job.id = orphan.id and orphan.crashes < %(crash_cap)s and not orphan.cancelled
  returning job.id, job.task, job.queue, job.attempt + 1 as attempt, job.claim_token - 1 as claim_token, job.started_at
),
taken as (
  select id, task, queue, attempt, claim_token, started_at from returned
  union all
  select id, task, queue, attempt, claim_token, started_at from ended
),
noted as (
  insert into {schema}.attempt (job_id, claim_token, started_at, attempt, task, queue, worker_name, cause, error)
  select id, claim_token, started_at, attempt, task, queue, null, 'worker lost', 'the worker running it was declared dead'
  from taken
),
bell as (
  select count(pg_notify('{channel}', queue)) from (select distinct queue from returned) as freed
  where pg_notification_queue_usage() < 0.5
),
waiter as (
  select count(pg_notify('{results_channel}', ''))
  from (select from ended join {schema}.awaited on awaited.job_id = ended.id limit 1) as awaiting
  where pg_notification_queue_usage() < 0.5
)
select
  (select count(*) from returned)::integer as returned,
  (select count(*) from ended)::integer as ended,
  (select count from bell) + (select count from waiter) as bells,
  array(select distinct unnest(gates) from ended) as gates
