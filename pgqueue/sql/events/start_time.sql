-- Where a reader begins that gets what was published from a time on: at the last tick before it. None: at the beginning.
select id as tick, 0::bigint as seq
from {schema}.tick
where at <= %(from_at)s
order by id desc
limit 1
