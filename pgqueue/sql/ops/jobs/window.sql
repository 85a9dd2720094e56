-- The next jobs by id, newest first, and of them those that are wanted: ids have an index, and most wishes have none.
-- At most `window` jobs are looked at. The last row, wanted or not, is the last of them unless `limit` came first.
select
  judged.id::text, state::text, queue, priority, task, args, kwargs, attempt, max_attempts, crashes,
  created_at, run_at, started_at, finished_at, worker::text, unique_key, headers,
  progress::text::float8, progress_note, cancel_requested, result, error,
  wanted,
  place::integer
from (
  -- Nothing is asked of arguments and results here: what lies out of line is fetched for the rows that are shown.
  select
    seen.*,
    (%(state)s::{schema}.job_state is null or state = %(state)s::{schema}.job_state)
      and (%(queue)s::text is null or queue = %(queue)s)
      and (%(task)s::text is null or task = %(task)s)
      and coalesce(finished_at, created_at) >= %(since)s::timestamptz as wanted,
    row_number() over (order by id desc) as place,
    lead(id) over (order by id desc) is null as is_last
  from (
    select *
    from (
      -- Without conditions of their own: with any, the two would be read and sorted as a whole.
      select
        true as live, id, state, queue, priority, task, args, kwargs, attempt, max_attempts, crashes,
        created_at, run_at, started_at, null::timestamptz as finished_at, worker, unique_key, headers,
        progress, progress_note, cancel_requested_at is not null as cancel_requested, null::text as result,
        cancel_reason as error
      from {schema}.job
      union all
      select
        false, id, state, queue, priority, task, args, kwargs, attempt, max_attempts, crashes,
        created_at, run_at, started_at, finished_at, worker, unique_key, headers,
        null::real, null::text, false, result, error
      from {schema}.history
    ) as jobs
    where
      -- Each leaves out whole tables and partitions; what left out rows of one would go past them without counting.
      ({live} or not live)
      and (live or state in ({states}))
      and (live or finished_at >= %(day)s::timestamptz)
      and (not live or id >= %(first)s)
      and id < %(after)s
    order by id desc
    limit %(window)s
  ) as seen
) as judged
where wanted or is_last
order by judged.id desc
limit %(limit)s
