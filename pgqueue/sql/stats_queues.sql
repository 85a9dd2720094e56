-- The queues: depth counted up to a limit, age of the oldest runnable job, running, paused, served by a live worker.
with recursive
-- The queues that have work, by skip scan.
stocked as (
  (
    select queue, 1 as place
    from {schema}.job
    where state = 'queued'
    order by queue
    limit 1
  )
  union all
  select following.queue, stocked.place + 1
  from stocked
  cross join lateral (
    select queue
    from {schema}.job
    where state = 'queued' and queue > stocked.queue
    order by queue
    limit 1
  ) as following
  where stocked.place < %(queue_limit)s
),
-- A first count goes a short way into each queue, the second shares what is left among those that are deeper: few deep
-- queues are counted far, and a thousand cost no more than four.
brief as (
  select stocked.queue, depth.count, depth.count >= depth.most as capped
  from stocked
  cross join (select greatest(1, %(count_limit)s / greatest(count(*), 1)) as most from stocked) as share
  cross join lateral (
    select count(*), share.most
    from (
      select
      from {schema}.job
      where state = 'queued' and queue = stocked.queue
      order by priority desc, seq
      limit share.most
    ) as counted
  ) as depth
),
counted as (
  select queue, count, false as capped from brief where not capped
  union all
  select brief.queue, depth.count, depth.count >= depth.most
  from brief
  cross join (select least(%(count_limit)s, 3 * %(count_limit)s / greatest(count(*), 1)) as most from brief where capped) as share
  cross join lateral (
    select count(*), share.most
    from (
      select
      from {schema}.job
      where state = 'queued' and queue = brief.queue
      order by priority desc, seq
      limit share.most
    ) as counted
  ) as depth
  where brief.capped
),
-- The first job of each (queue, priority), again by skip scan: within a pair the smallest seq became runnable first.
pair as (
  select stocked.queue, head.priority, head.run_at, 1 as place
  from stocked
  cross join lateral (
    select priority, run_at
    from {schema}.job
    where state = 'queued' and queue = stocked.queue
    order by priority desc, seq
    limit 1
  ) as head
  union all
  select pair.queue, head.priority, head.run_at, pair.place + 1
  from pair
  cross join lateral (
    select priority, run_at
    from {schema}.job
    where state = 'queued' and queue = pair.queue and priority < pair.priority
    order by priority desc, seq
    limit 1
  ) as head
  where pair.place < (select least(100, 10000 / greatest(count(*), 1)) from stocked)
),
oldest as (
  select queue, min(run_at) as run_at from pair group by queue
),
busy as (
  select queue, count(*)
  from (select queue from {schema}.job where state = 'running' order by worker limit %(count_limit)s) as running
  group by queue
),
serving as (
  select queues from {schema}.worker where state = 'alive' and lease_until > now()
),
paused as (
  select name as queue from {schema}.queue where paused_at is not null
),
named as (
  select queue from stocked
  union
  select queue from busy
  union
  select queue from paused
  union
  select unnest(queues) from serving
)
select
  named.queue,
  coalesce(counted.count, 0),
  coalesce(counted.capped, false),
  extract(epoch from now() - oldest.run_at)::float8,
  coalesce(busy.count, 0),
  paused.queue is not null,
  exists (select from serving where serving.queues is null or named.queue = any (serving.queues))
from named
left join counted on counted.queue = named.queue
left join oldest on oldest.queue = named.queue
left join busy on busy.queue = named.queue
left join paused on paused.queue = named.queue
