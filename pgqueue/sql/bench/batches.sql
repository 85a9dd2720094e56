-- When jobs of a task were recorded as succeeded, in seconds, and how many at a time.
select extract(epoch from finished_at)::float8 as at_s, count(*) as jobs
from {schema}.history
where state = 'succeeded' and task = %(task)s
group by finished_at
order by finished_at
