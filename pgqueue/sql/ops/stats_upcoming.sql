-- What falls due next: scheduled jobs, and schedules that will make one. Which queue that goes to only admins may read.
(
  select
    id::text, left(task, 200) as task, queue, run_at, extract(epoch from run_at - now())::float8 as due_in_s, attempt, max_attempts,
    null::text as schedule
  from {schema}.job
  where state = 'scheduled'
  order by run_at
  limit %(limit)s
)
union all
(
  select
    null, left(task, 200), null, next_run_at, extract(epoch from next_run_at - now())::float8, 0, null, left(name, 200)
  from {schema}.schedule
  where stopped_at is null and next_run_at is not null
  order by next_run_at
  limit %(limit)s
)
order by run_at
limit %(limit)s
