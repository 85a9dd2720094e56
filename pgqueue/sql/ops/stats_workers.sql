-- The workers with the number of jobs that each has claimed, and has had for a while; those in trouble first. Lost ones are
-- shown for an hour. Counted is for those that are shown: a thousand workers may hold a million jobs.
with shown as (
  select worker.*, condition.now_is, count(*) over () as in_all
  from {schema}.worker
  cross join lateral (
    select
      case
        when worker.state = 'dead' then 'lost'
        when worker.suspect_since is not null or worker.lease_until < now() then 'suspect'
        else worker.state
      end as now_is
  ) as condition
  where
    worker.state <> 'dead'
    or worker.heartbeat_at > now() - interval '1 hour'
    or exists (select from {schema}.job where job.state = 'running' and job.worker = any (array[worker.id]))
  order by condition.now_is = 'suspect' desc, condition.now_is = 'lost', worker.name, worker.id
  limit %(limit)s
)
select
  shown.id::text,
  left(shown.name, 200) as name,
  shown.now_is as state,
  extract(epoch from now() - shown.started_at)::float8 as uptime_s,
  extract(epoch from now() - shown.heartbeat_at)::float8 as heartbeat_age_s,
  shown.concurrency,
  claimed.count as claimed,
  claimed.lasting,
  shown.queues,
  left(shown.app, 200) as app,
  left(shown.version, 50) as version,
  shown.in_all
from shown
cross join lateral (
  select count(*), count(*) filter (where started_at < now() - interval '1 second') as lasting
  from (
    select started_at
    from {schema}.job
    where job.state = 'running' and job.worker = shown.id
    order by job.worker
    limit %(count_limit)s
  ) as running
) as claimed
order by shown.now_is = 'suspect' desc, shown.now_is = 'lost', shown.name, shown.id
