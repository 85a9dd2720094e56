-- Make another subscription like this one, with places that are put elsewhere afterwards.
with copied as (
  insert into {schema}.subscription (
    name, lanes, batch, batch_wait_s, max_attempts, timeout_s, priority, mode, types, queue, task, target, on_poison, headers
  )
  select
    %(to)s, lanes, batch, batch_wait_s, max_attempts, timeout_s, priority, mode, types, queue, task, target, on_poison, headers
  from {schema}.subscription
  where name = %(name)s
  returning name
)
insert into {schema}.place (subscription, lane, tick)
select copied.name, place.lane, place.tick
from copied, {schema}.place
where place.subscription = %(name)s
returning lane
