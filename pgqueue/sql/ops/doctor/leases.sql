-- Leases that ran out, and the running jobs of workers that are dead or unknown (counted up to a thousand).
select
  (
    select count(*)::integer
    from {schema}.worker
    where state <> 'dead' and lease_until < now() - interval '5 seconds'
  ) as expired,
  (
    select count(*)::integer
    from (
      select
      from {schema}.job
      left join {schema}.worker on worker.id = job.worker
      where job.state = 'running' and (worker.id is null or worker.state = 'dead')
      limit 1000
    ) as orphan
  ) as orphans,
  (select count(*)::integer from {schema}.worker where state <> 'dead' and lease_until > now()) as live
