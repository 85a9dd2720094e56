-- How many unfinished jobs each of these subscriptions has, up to a limit. Read along indexes, and never far: of what waits the first
-- jobs of its queue, and of what is scheduled those that are due first.
select
  subscription.name,
  (
    select count(*)
    from (
      (
        select
        from (
          select task, headers
          from {schema}.job
          where state = 'queued' and queue = subscription.queue and priority = subscription.priority
          order by seq
          limit 2 * %(most)s
        ) as queued
        where task = subscription.task and headers is not distinct from subscription.headers
      )
      union all
      (
        select
        from (select task, headers from {schema}.job where state = 'scheduled' order by run_at limit 2 * %(most)s) as scheduled
        where task = subscription.task and headers is not distinct from subscription.headers
      )
      union all
      (
        select
        from {schema}.job
        where state = 'running' and task = subscription.task and headers is not distinct from subscription.headers
      )
      limit %(most)s
    ) as unfinished
  )::integer as jobs
from {schema}.subscription
where subscription.name = any (%(names)s::text[])
