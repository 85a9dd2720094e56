-- Whether nothing is queued or due for these queues: the end of a burst.
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
  ) as ready
  where not exists (
    select
    from {schema}.queue
    where name = ready.queue and paused_at is not null and coalesce(resume_at > now(), true)
  )
) as drained
