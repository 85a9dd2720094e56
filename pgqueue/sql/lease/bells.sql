-- How full the server's queue of notifications is and, when that is worth a warning, whose transaction is the oldest; and
-- whether somebody gets a job for each event.
select
  usage as share,
  case when usage > %(share)s then (
    select format('session %%s of %%s (%%s)', pid, coalesce(usename, '?'), coalesce(nullif(application_name, ''), 'no name'))
    from pg_stat_activity
    -- Within a transaction a session that listens takes no notification, and the queue keeps all that came since.
    where pid <> pg_backend_pid() and xact_start is not null and backend_type = 'client backend'
    order by xact_start
    limit 1
  ) end as who,
  exists (select from {schema}.subscription where mode in ('job', 'batch')) as subscribed
from pg_notification_queue_usage() as usage
