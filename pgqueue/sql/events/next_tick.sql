-- The window after a tick: the two snapshots that it lies between. No next tick: that of this statement is its end for now.
select
  coalesce(next.era, since.era) as era,
  since.snap::text as since,
  next.id as next,
  coalesce(next.snap::text, pg_current_snapshot()::text) as upto
from {schema}.tick as since
left join lateral (
  select id, era, snap from {schema}.tick where id > since.id order by id limit 1
) as next on true
where since.id = %(tick)s
