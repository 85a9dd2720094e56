-- End jobs that have expired while they wait at gates, among the next ones in the order of their index; returns how many, the gates at
-- which that makes room, and where to continue, which is the beginning once all were seen.
with walked as (
  select *
  from (
    (
      select id, job.gate as place, gates[greatest(job.gate, 1::smallint)] as at, priority, seq, expires_at
      from {schema}.job
      where
        state = 'waiting' and job.gate is not null and job.gate = %(place)s::smallint
        and gates[greatest(job.gate, 1::smallint)] = %(after)s and priority = %(priority)s::smallint and seq > %(seq)s
      order by seq
      limit %(limit)s
    )
    union all
    (
      select id, job.gate, gates[greatest(job.gate, 1::smallint)], priority, seq, expires_at
      from {schema}.job
      where
        state = 'waiting' and job.gate is not null and job.gate = %(place)s::smallint
        and gates[greatest(job.gate, 1::smallint)] = %(after)s and priority < %(priority)s::smallint
      order by priority desc, seq
      limit %(limit)s
    )
    union all
    (
      select id, job.gate, gates[greatest(job.gate, 1::smallint)], priority, seq, expires_at
      from {schema}.job
      where
        state = 'waiting' and job.gate is not null and job.gate = %(place)s::smallint
        and gates[greatest(job.gate, 1::smallint)] > %(after)s
      order by gates[greatest(job.gate, 1::smallint)], priority desc, seq
      limit %(limit)s
    )
    union all
    (
      select id, job.gate, gates[greatest(job.gate, 1::smallint)], priority, seq, expires_at
      from {schema}.job
      where state = 'waiting' and job.gate is not null and job.gate > %(place)s::smallint
      order by job.gate, gates[greatest(job.gate, 1::smallint)], priority desc, seq
      limit %(limit)s
    )
  ) as waiting
  limit %(limit)s
),
-- Locked one by one by their ids: one that somebody lets through or cancels just now is left to them.
expired as (
  select held.id
  from walked
  cross join lateral (
    select id
    from {schema}.job
    where id = walked.id and state = 'waiting' and gate is not null and expires_at < statement_timestamp()
    limit 1
    for update skip locked
  ) as held
  where walked.expires_at < statement_timestamp()
),
gone as (
  delete from {schema}.job
  where id = any (array(select id from expired))
  returning *
),
kept as (
  insert into {schema}.history (
    id, claim_token, run_at, created_at, started_at, expires_at, worker, state, attempt, crashes, max_attempts,
    timeout_s, priority, queue, task, args, kwargs, headers, unique_key, gates, error
  )
  select
    id, claim_token, run_at, created_at, started_at, expires_at, worker, 'cancelled', attempt, crashes, max_attempts,
    timeout_s, priority, queue, task, args, kwargs, headers, unique_key, gates, %(error)s
  from gone
),
waiter as (
  select count(pg_notify('{results_channel}', ''))
  from (select from gone join {schema}.awaited on awaited.job_id = gone.id limit 1) as awaiting
  where pg_notification_queue_usage() < 0.5
),
last as (
  select place, at, priority, seq
  from walked
  where (select count(*) from walked) >= %(limit)s
  order by place desc, at desc, priority, seq desc
  limit 1
)
select
  (select count(*) from gone)::integer as ended,
  array(select distinct unnest(gates) from gone) as gates,
  coalesce((select place from last), -1) as place,
  coalesce((select at from last), '') as after,
  coalesce((select priority from last), 0) as priority,
  coalesce((select seq from last), 0) as seq,
  (select count from waiter) as bells
