-- Where a reader begins that gets this event and what is delivered after it: in the window that holds it, one before it.
select
  (
    select id
    from {schema}.tick
    where (tick.era, not pg_visible_in_snapshot(event.xid, tick.snap)) in ((event.era, true)) or tick.era < event.era
    order by id desc
    limit 1
  ) as tick,
  event.seq - 1 as seq
from {schema}.event
where event.id = %(event)s::uuid
