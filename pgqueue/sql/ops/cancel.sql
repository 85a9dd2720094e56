-- Cancel a job: at once if it has not started, else leave a note for its worker, which may kill it then. Returns what was done, no row if not alive.
with target as (
  select id, state, queue, task from {schema}.job where id = %(id)s for update
),
gone as (
  delete from {schema}.job
  using target
  where job.id = target.id and target.state <> 'running'
  returning job.*
),
kept as (
  insert into {schema}.history (
    id, claim_token, run_at, created_at, started_at, expires_at, worker, state, attempt, crashes, max_attempts,
    timeout_s, priority, queue, task, args, kwargs, headers, unique_key, gates, error
  )
  select
    id, claim_token, run_at, created_at, started_at, expires_at, worker, 'cancelled', attempt, crashes, max_attempts,
    timeout_s, priority, queue, task, args, kwargs, headers, unique_key, gates, %(reason)s
  from gone
),
asked as (
  update {schema}.job
  set
    cancel_requested_at = now(),
    cancel_reason = %(reason)s,
    kill_requested_at = case when %(kill)s then now() else job.kill_requested_at end
  from target
  where job.id = target.id and target.state = 'running'
),
audited as (
  insert into {schema}.audit (action, job_id, queue, task, state)
  select case when %(kill)s then 'kill' else 'cancel' end, id, queue, task, state from target
),
freed as (
  select distinct held.gate
  from gone
  cross join lateral unnest(gone.gates) with ordinality as held (gate, place)
  where gone.gate > held.place
),
{poked},
waiter as (
  select count(pg_notify('{results_channel}', ''))
  from (select from gone join {schema}.awaited on awaited.job_id = gone.id limit 1) as awaiting
  where pg_notification_queue_usage() < 0.5
)
select state::text, (select count from waiter) + (select count from rung) as bells
from target
