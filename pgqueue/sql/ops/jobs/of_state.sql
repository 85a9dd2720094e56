-- Jobs in one live state by the index of that state: all of them when there are fewer than `window`, else some.
-- In no order: asked for one, the planner would rather walk along all ids than sort.
with seen as (
  {source}
  limit %(window)s
),
wanted as (
  select id
  from seen
  where
    id < %(after)s
    and (%(queue)s::text is null or queue = %(queue)s)
    and (%(task)s::text is null or task = %(task)s)
    and created_at >= %(since)s::timestamptz
  order by id desc
  limit %(limit)s
)
select
  job.id::text, state::text, queue, priority, task, args, kwargs, attempt, max_attempts, crashes,
  created_at, run_at, started_at, null::timestamptz as finished_at, worker::text, unique_key, headers,
  progress::text::float8, progress_note, cancel_requested_at is not null as cancel_requested,
  null::text as result, cancel_reason as error,
  counted.jobs as seen
from (select count(*)::integer as jobs from seen) as counted
left join (wanted join {schema}.job on job.id = any (array[wanted.id])) on true
