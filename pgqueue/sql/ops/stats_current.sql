-- What these workers are running now, the longest running first.
select
  current.worker::text, current.id::text, left(current.task, 200) as task, current.queue, current.attempt,
  extract(epoch from now() - current.started_at)::float8 as running_s, current.progress::text::float8,
  left(current.progress_note, 200) as note
from unnest(%(workers)s::uuid[]) as wanted (id)
cross join lateral (
  select worker, id, task, queue, attempt, started_at, progress, progress_note
  from (
    -- A worker of async tasks may run thousands: of those, some are enough.
    select worker, id, task, queue, attempt, started_at, progress, progress_note
    from {schema}.job
    where state = 'running' and worker = wanted.id
    order by worker
    limit 200
  ) as running
  order by started_at, id
  limit %(limit)s
) as current
