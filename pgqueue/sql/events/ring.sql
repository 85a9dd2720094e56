-- Ring for the readers of the log, if asked to or if one of them sleeps.
select pg_notify('{events_channel}', '')
where
  pg_notification_queue_usage() < 0.5  -- see insert.sql
  and (
    %(ring)s = 'always'
    or %(ring)s = 'idle' and exists (
      select from {schema}.event_reader where asleep and until > statement_timestamp()
    )
  )
