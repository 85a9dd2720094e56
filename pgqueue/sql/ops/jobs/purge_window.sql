-- The next jobs by id, oldest first, and of them those that are wanted. At most `window` are looked at, as in window.sql.
-- The last row, wanted or not, is the last of them: where to continue.
select id::text, wanted, finished_at
from (
  select
    id,
    finished_at,
    state = %(state)s
      and (%(queue)s::text is null or queue = %(queue)s)
      and (%(task)s::text is null or task = %(task)s) as wanted,
    lead(id) over (order by id) is null as is_last
  from (
    select id, state, queue, task, {finished_at} as finished_at
    from {schema}.{table}
    -- All states of that table or branch: what left out rows of one would go past them without counting.
    where state in ({states}) and id > %(after)s
    order by id
    limit %(window)s
  ) as seen
) as judged
where wanted or is_last
order by id
