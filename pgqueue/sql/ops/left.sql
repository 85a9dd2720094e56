-- What a drain waits for: jobs of a queue that are due, also those that wait at an open gate, and that run, counted up to a limit; and whether the queue is paused.
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
  )::integer
  + (
    select count(*)
    from (
      -- They run as soon as there is room, though jobs of another queue may have it just now.
      select
      from {schema}.job
      where
        state = 'waiting' and gate is not null and queue = %(queue)s
        and exists (
          select
          from {schema}.gate as rule
          where
            rule.name in (gates[greatest(job.gate, 1::smallint)], split_part(gates[greatest(job.gate, 1::smallint)], '=', 1))
            -- What is set for the key itself counts before what is set for its rule; closed is closed.
            having count(*) > 0
              and coalesce(
                (array_agg(rule.slots order by strpos(rule.name, '=') > 0 desc) filter (where rule.slots is not null))[1] > 0, true
              )
              and bool_and(rule.closed_at is null or coalesce(rule.closed_until <= statement_timestamp(), false))
        )
      limit %(count_limit)s
    ) as at_gates
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
