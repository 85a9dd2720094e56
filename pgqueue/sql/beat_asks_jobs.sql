-- The seconds until the next job falls due; and dead workers that still have jobs: also the straggler of a claim that raced
-- with the death.
(select extract(epoch from min(run_at) - now())::float8 from {schema}.job where state = 'scheduled'),
  array(
    select id::text
    from {schema}.worker
    where state = 'dead' and exists (select from {schema}.job where job.worker = worker.id and job.state = 'running')
  )
