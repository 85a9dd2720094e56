-- The workers with the number of jobs that each has claimed, and has had for a while; those in trouble first. Lost ones are
-- shown for an hour.
select
  worker.id::text,
  left(worker.name, 200),
  condition.state,
  extract(epoch from now() - worker.started_at)::float8,
  extract(epoch from now() - worker.heartbeat_at)::float8,
  worker.concurrency,
  claimed.count,
  claimed.lasting,
  worker.queues,
  left(worker.app, 200),
  left(worker.version, 50),
  count(*) over ()
from {schema}.worker
cross join lateral (
  select
    case
      when worker.state = 'dead' then 'lost'
      when worker.suspect_since is not null or worker.lease_until < now() then 'suspect'
      else worker.state
    end as state
) as condition
cross join lateral (
  select count(*), count(*) filter (where started_at < now() - interval '1 second') as lasting
  from (
    select started_at
    from {schema}.job
    where job.state = 'running' and job.worker = worker.id
    order by job.worker
    limit %(count_limit)s
  ) as running
) as claimed
where worker.state <> 'dead' or worker.heartbeat_at > now() - interval '1 hour' or claimed.count > 0
order by condition.state = 'suspect' desc, condition.state = 'lost', worker.name, worker.id
limit %(limit)s
