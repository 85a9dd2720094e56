-- Queues and tasks among the oldest waiting jobs that no live worker will take, and paused queues: (what, name, jobs).
with live as (
  select queues, tasks from {schema}.worker where state = 'alive' and lease_until > now()
),
waiting as (
  select queue, task from {schema}.job where state = 'queued' order by queue, priority desc, seq limit 10000
),
stocked as (
  select queue, count(*)::integer as jobs from waiting group by queue
)
select 'paused' as what, stocked.queue as name, jobs
from stocked
join {schema}.queue on queue.name = stocked.queue
where paused_at is not null and coalesce(resume_at > now(), true)
union all
select 'queue', queue, jobs
from stocked
where not exists (select from live where live.queues is null or stocked.queue = any (live.queues))
union all
select 'task', task, count(*)::integer
from waiting
where
  exists (select from live)
  and not exists (
    select from live where (live.queues is null or waiting.queue = any (live.queues)) and waiting.task = any (live.tasks)
  )
  and exists (select from live where live.queues is null or waiting.queue = any (live.queues))
group by task
order by 1, 3 desc
limit 20
