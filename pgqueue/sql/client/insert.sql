-- Insert jobs and ring the doorbell for those due soon; returns each new job's id and unique key.
with {period}given as (
  select
    id, task, queue, priority, args, kwargs, headers, max_attempts, timeout_s, unique_key,
    coalesce(run_at, statement_timestamp()) + coalesce(delay_s, 0) * interval '1 second' as run_at,
    coalesce(expires_at, statement_timestamp() + expires_s * interval '1 second') as expires_at{gates}
  from {source} as source (
    id, task, queue, priority, args, kwargs, headers, max_attempts, timeout_s, unique_key,
    run_at, delay_s, expires_at, expires_s{gates}
  )
),
inserted as (
  insert into {schema}.job (
    id, state, task, queue, priority, args, kwargs, headers, max_attempts, timeout_s, unique_key, run_at, expires_at{gates}
  )
  select
    id, case when run_at > statement_timestamp() then 'scheduled' else '{begins}' end::{schema}.job_state,
    task, queue, priority, args, kwargs, headers, max_attempts, timeout_s, unique_key, run_at, expires_at{gates}
  from given
  {on_conflict}
  returning id, queue, run_at, unique_key
),
bell as (
  select pg_notify('{channel}', queue)
  from (
    select distinct queue
    from inserted
    -- A job due before the longest poll must be heard of now, or it would start late.
    where run_at < statement_timestamp() + interval '10 seconds'{calm}
  ) as due
  where
    -- The server's queue of notifications fills up when a session does not listen, and then every NOTIFY fails: a bell is a
    -- hint, and not worth a job.
    pg_notification_queue_usage() < 0.5
    and (
      %(ring)s = 'always'
      or %(ring)s = 'idle' and exists (
        select
        from {schema}.worker
        where sleeping and state = 'alive' and (worker.queues is null or due.queue = any (worker.queues))
      )
    )
){freed}
select id::text, unique_key, (select count(*) from bell){rung} as bells
from inserted
