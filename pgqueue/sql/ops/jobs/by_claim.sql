-- The other way round than they are claimed: at that end nothing has been taken away.
  select id, queue, task, created_at from {schema}.job where state = 'queued' order by queue desc, priority, seq desc
