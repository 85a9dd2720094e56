-- Sign a worker in: from here on it holds a lease.
insert into {schema}.worker (
  id, lease_until, lock_key, backend_pid, pid, concurrency, name, version, app, queues, tasks, code, schedules
)
values (
  %(worker)s, now() + %(lease_s)s * interval '1 second', %(lock_key)s, pg_backend_pid(), %(pid)s, %(concurrency)s,
  %(name)s, %(version)s, %(app)s, %(queues)s::text[], %(tasks)s::text[], %(code)s,
  %(schedules)s::text[]
)
-- Ours already, if the answer to the first try was lost; the heartbeat that follows finds out whether it still counts.
on conflict (id) do nothing
