-- Make due jobs runnable, oldest due first; returns how many, the seconds until the next one falls due, and the gates at which
-- some of them wait now.
with due as (
  select id
  from {schema}.job
  where state = 'scheduled' and run_at <= coalesce(%(now)s::timestamptz, now())
  order by run_at
  limit 1000
  for update skip locked
),
promoted as (
  update {schema}.job
  set
    state = case when gates is null or gate > cardinality(gates) then 'queued' else 'waiting' end::{schema}.job_state,
    seq = nextval('{schema}.job_seq')
  from due
  where job.id = any (array[due.id])  -- see steady_plans.sql
  returning job.id, job.queue, case when job.state = 'waiting' then job.gates[greatest(job.gate, 1::smallint)] end as waits_at
),
bell as (
  select count(pg_notify('{channel}', queue))
  from (select distinct queue from promoted where waits_at is null) as due
  where pg_notification_queue_usage() < 0.5 and exists (
    select
    from {schema}.worker
    where sleeping and state = 'alive' and id <> %(worker)s
      and (worker.queues is null or due.queue = any (worker.queues))
  )
)
select
  (select count(*) from promoted)::integer as promoted,
  (
    select extract(epoch from run_at - now())::float8
    from {schema}.job
    where state = 'scheduled' and id not in (select id from promoted)
    order by run_at
    limit 1
  ) as next_due_s,
  (select count from bell) as bells,
  array(select distinct waits_at from promoted where waits_at is not null) as gates
