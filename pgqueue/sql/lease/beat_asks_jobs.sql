-- The seconds until the next job falls due, and the next schedule; dead workers that still have jobs: also the straggler of a claim that raced
-- with the death.
(select extract(epoch from min(run_at) - now())::float8 from {schema}.job where state = 'scheduled') as next_due_s,
  array(
    select id::text
    from {schema}.worker
    where
      state = 'dead'
      -- Each looked up by itself: exists() was joined with all that runs, and took 80 ms instead of 0.5 behind 300,000 dead
      -- entries of jobs that ran.
      and (select true from {schema}.job where job.worker = worker.id and job.state = 'running' limit 1)
  ) as orphaning,
  -- The same of schedules, so that they need no look of their own.
  (select extract(epoch from min(next_run_at) - now())::float8 from {schema}.schedule where stopped_at is null) as schedule_due_s
