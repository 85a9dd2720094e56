-- A job for each 1,000 rows.
  insert into {schema}.job (id, task, queue, priority, timeout_s, expires_at, headers, args)
  select
    {schema}.uuid7(), {task}, {queue}, {priority}, {timeout_s}, statement_timestamp() + {expires_s} * interval '1 s', {headers},
    jsonb_build_array(op, jsonb_agg(case jsonb_array_length(said) when 1 then said -> 0 else said end))::text
  from (
    select op, said, (row_number() over (partition by op) - 1) / 1000 as lot
    from (
      select {op} as op, {said} as said
      from {rows}
      where {condition}
    ) as row_of
  ) as row_in_lot
  group by op, lot;
{ring}
