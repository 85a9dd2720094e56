-- Append one event, and ring if asked to or if somebody sleeps until one comes.
with published as (
  insert into {schema}.event (id, type, key, payload, headers)
  values (%(id)s::uuid, %(type)s, %(key)s, %(payload)s, %(headers)s)
)
select pg_notify('{events_channel}', '')
where
  pg_notification_queue_usage() < 0.5  -- see insert.sql
  and (
    %(ring)s = 'always'
    or %(ring)s = 'idle' and exists (
      select from {schema}.event_reader where asleep and until > statement_timestamp()
    )
  )
