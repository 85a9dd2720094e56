(
  select
    id, task, queue, priority, args, kwargs, headers, max_attempts, timeout_s, unique_key,
    run_at, delay_s, expires_at, expires_s{gates}
  from json_to_recordset(%(rows)s::json) as row (
    id uuid, task text, queue text, priority smallint, args text, kwargs text,
    headers text, max_attempts integer, timeout_s real, unique_key text,
    run_at timestamptz, delay_s float8, expires_at timestamptz, expires_s float8{gates_given}
  )
  -- One order for all inserters, or two bulk inserts of the same keys deadlock; that in which Python sorts the chunks.
  order by unique_key collate "C"
)
