-- Keep a payload that is too large for NOTIFY, and send its id; both or neither.
with kept as (
  insert into {schema}.notice (id, payload)
  select %(id)s::uuid, %(text)s
  where pg_notification_queue_usage() < 0.5
  returning id
)
select count(pg_notify(%(channel)s, %(payload)s)) as sent, pg_notification_queue_usage() as share
from kept
