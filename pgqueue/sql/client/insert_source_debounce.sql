(
  select
    id, task, queue, priority, args, kwargs, headers, max_attempts, timeout_s,
    -- The key of the job that waits; else the first that no job has. What runs has its arguments already, and keeps its key.
    coalesce(
      (
        select slot.key
        from unnest(%(keys)s::text[]) with ordinality as slot (key, place)
        left join {schema}.job as holder on holder.unique_key = slot.key
        where holder.state is distinct from 'running'
        order by holder.id is null, slot.place
        limit 1
      ),
      unique_key || ':' || id::text
    ) as unique_key,
    run_at, delay_s, expires_at, expires_s{gates}
  from (values (
    %(id)s::uuid, %(task)s::text, %(queue)s::text, %(priority)s::smallint, %(args)s::text, %(kwargs)s::text,
    %(headers)s::text, %(max_attempts)s::integer, %(timeout_s)s::real, %(unique_key)s::text,
    %(run_at)s::timestamptz, %(delay_s)s::float8, %(expires_at)s::timestamptz, %(expires_s)s::float8{gates_given}
  )) as call (
    id, task, queue, priority, args, kwargs, headers, max_attempts, timeout_s, unique_key,
    run_at, delay_s, expires_at, expires_s{gates}
  )
)
