-- Make a session ours, whatever a role or a database sets; not through a pooler, whose sessions others use too.
-- What is not set here is left to the operator of the server: synchronous_commit, which trades safety for speed, work_mem,
-- the planner's settings, and default_transaction_read_only, which says that nothing may be written.
select pg_catalog.set_config(wanted.name, wanted.value, false)
from (
  values
    -- The server must notice a host that vanished as soon as its client does, or its locks stay for two hours. These
    -- change nothing for a query, so a task's own connection has them too.
    ('tcp_keepalives_idle', '3', false),
    ('tcp_keepalives_interval', '1', false),
    ('tcp_keepalives_count', '3', false),
    -- Not there: it also counts while a client does not read, as a task that streams rows and takes its time with each.
    ('tcp_user_timeout', '5000', true),
    -- A client that was killed would keep its session lock, and its rows, until its query ends.
    ('client_connection_check_interval', '1000', false),
    -- A session that listens is silent for long.
    ('idle_session_timeout', '0', true),
    -- What a web application's role allows its own statements must not end a long COPY, a claim that waits for its turn, or a
    -- defer_many whose rows come slowly out of the caller's own generator: we cut what takes too long from our side, where we
    -- also know what to do next, and a dead worker's sessions are ended by their name. Waits for locks are bounded where one
    -- would hold up others (see lock_patience.sql, schema_patience.sql, tidy).
    ('statement_timeout', '0', true),
    ('transaction_timeout', '0', true),
    ('lock_timeout', '0', true),
    ('idle_in_transaction_session_timeout', '0', true),
    -- A claim or a finish that meets another's row looks at it again and continues; a stricter level would refuse it instead.
    ('default_transaction_isolation', 'read committed', true),
    -- Otherwise a null in a list of results or errors arrives as the word NULL.
    ('array_nulls', 'on', true),
    -- Times and numbers travel in binary, which no setting changes; these are for whatever a statement itself turns into text.
    ('DateStyle', 'ISO, YMD', true),
    ('IntervalStyle', 'postgres', true),
    ('extra_float_digits', '1', true),
    -- Times are told in one zone whatever the server's is, which the client may not know by that name.
    ('TimeZone', 'UTC', true),
    -- A backslash in a text of ours is a backslash.
    ('standard_conforming_strings', 'on', true),
    -- No name of ours finds anything that others made.
    ('search_path', 'pg_catalog, pg_temp', true)
) as wanted (name, value, private)
-- A server that does not know a setting, or keeps it for itself, would refuse the whole connection.
join pg_catalog.pg_settings as known on known.name operator(pg_catalog.=) wanted.name
where
  pg_catalog.pg_backend_pid() operator(pg_catalog.=) %(backend_pid)s
  and known.context operator(pg_catalog.=) 'user'
  and (%(private)s or not wanted.private)
  -- Elsewhere the kernel does not report a closed connection, and the server refuses or complains in its log.
  and (
    wanted.name operator(pg_catalog.<>) all (array['client_connection_check_interval', 'tcp_user_timeout'])
    or pg_catalog.version() operator(pg_catalog.~~) '%%linux%%'
  )
