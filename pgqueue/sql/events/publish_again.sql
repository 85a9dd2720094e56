-- Append one event after a try whose answer was lost, unless it is there; ring, as it may be what nobody heard.
with published as (
  insert into {schema}.event (id, type, key, payload, headers)
  select %(id)s::uuid, %(type)s, %(key)s, %(payload)s, %(headers)s
  where not exists (select from {schema}.event where at > now() - interval '1 day' and id = %(id)s::uuid)
)
select pg_notify('{events_channel}', '') where pg_notification_queue_usage() < 0.5
