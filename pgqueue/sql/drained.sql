-- Whether nothing is queued or due for these queues: the end of a burst.
select not exists (
  -- Two looks, each by its own index.
  select
  from (
    select queue, task from {schema}.job where state = 'queued'
    union all
    select queue, task from {schema}.job where state = 'scheduled' and run_at <= now()
  ) as ready
  where
    (%(queues)s::text[] is null or queue = any (%(queues)s))
    and task <> all (%(unknown)s::text[])
    and not exists (select from {schema}.queue where name = ready.queue and paused_at is not null)
)
