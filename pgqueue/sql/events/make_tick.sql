-- Make the tick after this one, unless somebody did while we waited for the lock.
insert into {schema}.tick (era, snap)
select era, pg_current_snapshot()
from {schema}.tick as since
where id = %(tick)s and not exists (select from {schema}.tick where id > since.id)
returning id
