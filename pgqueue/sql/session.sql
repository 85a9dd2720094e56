-- Make a session ours, whatever a role or a database sets; not through a pooler, whose sessions others use too.
select pg_catalog.set_config(wanted.name, wanted.value, false)
from (
  values
    -- The server must notice a host that vanished as soon as its client does, or its locks stand for two hours. These
    -- change nothing for a query, so a task's own connection has them too.
    ('tcp_keepalives_idle', '3', false),
    ('tcp_keepalives_interval', '1', false),
    ('tcp_keepalives_count', '3', false),
    -- Not there: it also counts while a client does not read, as a task that streams rows and takes its time with each.
    ('tcp_user_timeout', '5000', true),
    -- A client that was killed would keep its session lock, and its rows, until its query ends.
    ('client_connection_check_interval', '1000', false),
    -- Who listens is silent for long. No idle_in_transaction_session_timeout: in defer_many the caller's own generator runs
    -- between two statements, for as long as it likes; and a dead worker's sessions are ended by their name.
    ('idle_session_timeout', '0', true),
    -- No name of ours finds anything that others made.
    ('search_path', 'pg_catalog, pg_temp', true)
) as wanted (name, value, private)
-- A server that does not know a setting, or keeps it for itself, would refuse the whole connection.
join pg_catalog.pg_settings as known on known.name operator(pg_catalog.=) wanted.name
where
  pg_catalog.pg_backend_pid() operator(pg_catalog.=) %(backend_pid)s
  and known.context operator(pg_catalog.=) 'user'
  and (%(private)s or not wanted.private)
  -- Elsewhere the kernel cannot tell of a closed connection, and the server refuses or complains in its log.
  and (
    wanted.name operator(pg_catalog.<>) all (array['client_connection_check_interval', 'tcp_user_timeout'])
    or pg_catalog.version() operator(pg_catalog.~~) '%%linux%%'
  )
