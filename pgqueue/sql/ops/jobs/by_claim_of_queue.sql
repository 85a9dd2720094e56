-- As by_claim.sql, of one queue.
  select id, queue, task, created_at
  from {schema}.job
  where state = 'queued' and queue = %(queue)s
  order by priority, seq desc
