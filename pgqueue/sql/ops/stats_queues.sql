-- The queues: depth counted up to a limit, age of the oldest runnable job, running, paused, served by a live worker.
with recursive
-- The queues that have work, each with its first job, by skip scan.
stocked as (
  (
    select queue, priority, seq, run_at, 1 as place
    from {schema}.job
    where state = 'queued'
    order by queue, priority desc, seq
    limit 1
  )
  union all
  select head.queue, head.priority, head.seq, head.run_at, stocked.place + 1
  from stocked
  cross join lateral (
    select queue, priority, seq, run_at
    from {schema}.job
    where state = 'queued' and queue > stocked.queue
    order by queue, priority desc, seq
    limit 1
  ) as head
  where stocked.place < %(queue_limit)s
),
levels as (
  select least(100, 10000 / greatest(count(*), 1)) as most from stocked
),
-- The first job of each (queue, priority), again by skip scan: the smallest seq of a pair became runnable first.
pair as (
  select queue, priority, seq, run_at, 1 as place from stocked
  union all
  select pair.queue, head.priority, head.seq, head.run_at, pair.place + 1
  from pair
  cross join lateral (
    select priority, seq, run_at
    from {schema}.job
    where state = 'queued' and queue = pair.queue and priority < pair.priority
    order by priority desc, seq
    limit 1
  ) as head
  where pair.place < (select most from levels)
),
-- What four may use is shared by as many as there are, so that thousands cost no more.
budget as (
  select greatest(1, least(%(count_limit)s::bigint, 4 * %(count_limit)s::bigint / greatest(count(*), 1))) as depth from pair
),
counted as (
  select
    pair.queue,
    sum(depth.count)::bigint as count,
    bool_or(depth.count >= budget.depth) or max(pair.place) >= max(levels.most) as capped,
    min(pair.run_at) as oldest_at
  from pair
  cross join budget
  cross join levels
  cross join lateral (
    select count(*)
    from (
      select
      from {schema}.job
      -- From the first job on: a pinned snapshot leaves dead entries before it, and they were passed once already.
      where state = 'queued' and queue = pair.queue and priority = pair.priority and seq >= pair.seq
      order by seq
      limit budget.depth
    ) as waiting
  ) as depth
  group by pair.queue
),
busy as (
  select queue, count(*)
  from (select queue from {schema}.job where state = 'running' order by worker limit %(count_limit)s::bigint) as running
  group by queue
),
serving as (
  select queues from {schema}.worker where state = 'alive' and lease_until > now()
),
paused as (
  select name as queue, extract(epoch from resume_at - now())::float8 as resume_s
  from {schema}.queue
  where paused_at is not null and coalesce(resume_at > now(), true)
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
  coalesce(counted.count, 0) as counted,
  coalesce(counted.capped, false) as capped,
  extract(epoch from now() - counted.oldest_at)::float8 as oldest_age_s,
  coalesce(busy.count, 0) as running,
  paused.queue is not null as paused,
  paused.resume_s,
  exists (select from serving where serving.queues is null or named.queue = any (serving.queues)) as served
from named
left join counted on counted.queue = named.queue
left join busy on busy.queue = named.queue
left join paused on paused.queue = named.queue
