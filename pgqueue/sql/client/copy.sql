-- Load many jobs that have no unique key, in the order given.
copy {schema}.job (
  id, state, run_at, expires_at, max_attempts, timeout_s, priority, queue, task, args, kwargs, headers{gates}
) from stdin
