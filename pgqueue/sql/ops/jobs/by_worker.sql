-- What the workers hold.
  select id, queue, task, created_at from {schema}.job where state = 'running' order by worker
