-- A job for each row.
  insert into {schema}.job (id, task, queue, priority, timeout_s, expires_at, headers, args)
  select
    {schema}.uuid7(), {task}, {queue}, {priority}, {timeout_s}, statement_timestamp() + {expires_s} * interval '1 s', {headers},
    (jsonb_build_array(op) || said)::text
  from (
    select {op} as op, {said} as said
    from {rows}
    where {condition}
  ) as row_of;
{ring}
