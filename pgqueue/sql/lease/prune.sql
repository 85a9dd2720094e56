-- Forget what only served the moment: old counters, waiters that went away, dead workers without jobs.
with counters as (
  delete from {schema}.throughput where at < now() - interval '1 day'
),
waiters as (
  delete from {schema}.awaited where until < now()
)
delete from {schema}.worker
where
  state = 'dead' and heartbeat_at < now() - interval '1 day'
  -- Each looked up by itself, as in the heartbeat: not exists() was joined with all that runs.
  and (select true from {schema}.job where job.worker = worker.id and job.state = 'running' limit 1) is null
