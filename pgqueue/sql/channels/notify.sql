-- Send one notification, unless the server's queue of them fills up: when it is full, the commit that notifies fails.
select count(pg_notify(%(channel)s, %(payload)s)) as sent, pg_notification_queue_usage() as share
from (select) as one
where pg_notification_queue_usage() < 0.5
