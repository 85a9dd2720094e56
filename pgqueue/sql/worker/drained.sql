-- Whether nothing is queued, due, or waits at a gate that is open, for these queues: the end of a burst.
select not exists (
  select
  from (
    select queue from {schema}.job where state = 'queued' and %(queues)s::text[] is null and task <> all (%(unknown)s::text[])
    union all
    -- Each named queue is looked up by itself, and in the order of the index: else the jobs of all others were read.
    select named.queue
    from unnest(%(queues)s::text[]) as named (queue)
    cross join lateral (
      select
      from {schema}.job
      where state = 'queued' and queue = named.queue and task <> all (%(unknown)s::text[])
      order by priority desc, seq
      limit 1
    ) as waiting
    union all
    select queue
    from {schema}.job
    where
      state = 'scheduled' and run_at <= now()
      and (%(queues)s::text[] is null or queue = any (%(queues)s)) and task <> all (%(unknown)s::text[])
    union all
    select queue
    from {schema}.job
    where
      state = 'waiting' and gate is not null
      and (%(queues)s::text[] is null or queue = any (%(queues)s)) and task <> all (%(unknown)s::text[])
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
  ) as ready
  where not exists (
    select
    from {schema}.queue
    where name = ready.queue and paused_at is not null and coalesce(resume_at > now(), true)
  )
) as drained
