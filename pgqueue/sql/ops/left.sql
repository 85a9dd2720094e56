-- What a drain waits for: jobs of a queue that are due, and that run, counted up to a limit; and whether the queue is paused.
select
  (
    select count(*)
    from (
      select
      from {schema}.job
      where state = 'queued' and queue = %(queue)s
      order by priority desc, seq
      limit %(count_limit)s
    ) as waiting
  )::integer
  + (
    select count(*)
    from (
      -- Due, and not yet made runnable by a worker.
      select
      from {schema}.job
      where state = 'scheduled' and run_at <= now() and queue = %(queue)s
      order by run_at
      limit %(count_limit)s
    ) as fallen
  )::integer as due,
  (
    select count(*)
    -- In the order of their index, as few jobs run and many may wait.
    from (select queue from {schema}.job where state = 'running' order by worker) as running
    where queue = %(queue)s
  )::integer as running,
  exists (
    select
    from {schema}.queue
    where name = %(queue)s and paused_at is not null and coalesce(resume_at > now(), true)
  ) as paused
