-- The last tick before everything that was published at a time or later; null where nothing was: here and now will do.
with first as (
  select era, xid from {schema}.event where at >= %(at)s order by era, xid limit 1
)
select (
  select coalesce(max(id), 0) from {schema}.tick
  where tick.era < first.era or tick.era = first.era and pg_snapshot_xmax(tick.snap) <= first.xid
)
from (values (1)) as always left join first on true
