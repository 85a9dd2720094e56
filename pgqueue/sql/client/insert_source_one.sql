(values (
  %(id)s::uuid, %(task)s::text, %(queue)s::text, %(priority)s::smallint, %(args)s::text, %(kwargs)s::text,
  %(headers)s::text, %(max_attempts)s::integer, %(timeout_s)s::real, %(unique_key)s::text,
  %(run_at)s::timestamptz, %(delay_s)s::float8, %(expires_at)s::timestamptz, %(expires_s)s::float8{gates_given}
))
