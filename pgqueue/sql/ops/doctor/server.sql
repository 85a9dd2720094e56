-- The server and this session: what weakens a promise, what a worker would stumble over, how full the notify queue is.
select
  current_setting('server_version_num')::integer,
  current_setting('server_encoding'),
  pg_is_in_recovery(),
  current_setting('fsync'),
  current_setting('full_page_writes'),
  current_setting('synchronous_commit'),
  current_setting('autovacuum'),
  (select setting::float8 / 1000 from pg_settings where name = 'statement_timeout'),
  (select setting::float8 / 1000 from pg_settings where name = 'lock_timeout'),
  (select setting::float8 / 1000 from pg_settings where name = 'idle_in_transaction_session_timeout'),
  (select setting::float8 / 1000 from pg_settings where name = 'idle_session_timeout'),
  (select setting::float8 / 1000 from pg_settings where name = 'transaction_timeout'),
  pg_notification_queue_usage(),
  (select count(*)::integer from pg_stat_activity where backend_type = 'client backend'),
  current_setting('max_connections')::integer - current_setting('superuser_reserved_connections')::integer,
  pg_backend_pid()
