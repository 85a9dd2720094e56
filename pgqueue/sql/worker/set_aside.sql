-- End the job that the next claim would take and cannot, as no client can read it or a number in it is at its end: it would
-- stop all that come after it. Found as in claim.sql. Says only which it was.
with unfit as (
  delete from {schema}.job
  where ctid = any (array(
    select candidate.ctid
    from (
      select queue, priority, cursor
      from unnest(%(queues)s::text[], %(priorities)s::smallint[], %(cursors)s::bigint[])
        with ordinality as known (queue, priority, cursor, place)
      where not exists (select from {schema}.queue where name = known.queue and paused_at is not null and coalesce(resume_at > now(), true))
      order by place
    ) as pair
    cross join lateral (
      select job.ctid
      from {schema}.job
      where job.state = 'queued' and job.queue = pair.queue and job.priority = pair.priority and job.seq > pair.cursor
        and job.task <> all (%(unknown)s::text[])
      order by job.seq
      limit 1
      for update skip locked
    ) as candidate
    where exists (select from {schema}.worker where id = %(worker)s and state = 'alive')
    limit 1
  ))
  returning job.*
),
kept as (
  insert into {schema}.history (
    id, claim_token, run_at, created_at, started_at, expires_at, worker, state, attempt, crashes, max_attempts,
    timeout_s, priority, queue, task, args, kwargs, headers, unique_key, gates, error
  )
  select
    id, claim_token, run_at, created_at, started_at, expires_at, %(worker)s, 'dead', attempt, crashes, max_attempts,
    timeout_s, priority, queue, task, args, kwargs, headers, unique_key, gates, %(error)s
  from unfit
),
failed as (
  insert into {schema}.attempt (job_id, claim_token, started_at, attempt, task, queue, worker_name, cause, error, traceback)
  select id, claim_token, started_at, attempt, task, queue, %(worker_name)s, %(cause)s, %(error)s, null
  from unfit
)
select id::text from unfit
