-- Whether nothing is queued or due for these queues: the end of a burst.
select not exists (
  select
  from {schema}.job
  where
    (state = 'queued' or (state = 'scheduled' and run_at <= now()))
    and (%(queues)s::text[] is null or queue = any (%(queues)s))
    and task <> all (%(unknown)s::text[])
    and not exists (select from {schema}.queue as setting where setting.name = job.queue and setting.paused_at is not null)
)
