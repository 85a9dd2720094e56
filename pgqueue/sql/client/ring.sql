-- Ring the doorbell for a queue, if asked to or if a worker that serves it sleeps.
select pg_notify('{channel}', %(queue)s::text)
where
  pg_notification_queue_usage() < 0.5  -- see insert.sql
  and (
    %(ring)s = 'always'
    or %(ring)s = 'idle' and exists (
      select
      from {schema}.worker
      where sleeping and state = 'alive' and (worker.queues is null or %(queue)s = any (worker.queues))
    )
  )
