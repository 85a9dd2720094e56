-- The tick in whose window an event lies, and its place there.
select
  coalesce(
    (
      select max(id) from {schema}.tick
      where tick.era < event.era or tick.era = event.era and not pg_visible_in_snapshot(event.xid, tick.snap)
    ),
    0
  ),
  event.seq
from {schema}.event
where event.at between %(low)s and %(high)s and event.id = %(id)s::uuid
limit 1
