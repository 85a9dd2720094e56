-- Append one event after a try whose answer was lost, unless it is there; ring, as it may be what nobody heard.
with published as (
  insert into {schema}.event (id, type, key, payload, headers)
  select %(id)s::uuid, %(type)s, %(key)s, %(payload)s, %(headers)s
  -- Among the last million transactions: that many do not commit while an answer is waited for.
  where not exists (
    select
    from {schema}.event
    where
      xid >= greatest(pg_snapshot_xmin(pg_current_snapshot())::text::bigint - 1000000, 3)::text::xid8 and id = %(id)s::uuid
  )
)
select pg_notify('{events_channel}', '') where pg_notification_queue_usage() < 0.5
