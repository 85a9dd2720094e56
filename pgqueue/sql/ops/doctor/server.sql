-- The server and this session: what weakens a promise, what a worker would stumble over, how full the notify queue is.
select
  current_setting('server_version_num')::integer as version,
  current_setting('server_encoding') as encoding,
  pg_is_in_recovery() as in_recovery,
  current_setting('fsync') as fsync,
  current_setting('full_page_writes') as full_page_writes,
  current_setting('synchronous_commit') as synchronous_commit,
  current_setting('autovacuum') as autovacuum,
  (select setting::float8 / 1000 from pg_settings where name = 'statement_timeout') as statement_timeout_s,
  (select setting::float8 / 1000 from pg_settings where name = 'lock_timeout') as lock_timeout_s,
  (select setting::float8 / 1000 from pg_settings where name = 'idle_in_transaction_session_timeout') as idle_in_transaction_s,
  (select setting::float8 / 1000 from pg_settings where name = 'idle_session_timeout') as idle_session_s,
  (select setting::float8 / 1000 from pg_settings where name = 'transaction_timeout') as transaction_timeout_s,
  pg_notification_queue_usage() as notify_share,
  (select count(*)::integer from pg_stat_activity where backend_type = 'client backend') as sessions,
  current_setting('max_connections')::integer - current_setting('superuser_reserved_connections')::integer as allowed,
  pg_backend_pid() as backend_pid
