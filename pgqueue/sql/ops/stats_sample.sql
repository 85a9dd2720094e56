-- Live jobs on some pages of the table, by state and queue. Always the same pages: they stay cached, figures stay calm.
select state::text, queue, count(*) as jobs
from {schema}.job tablesample system (%(percent)s) repeatable (1)
where state in ('queued', 'scheduled', 'running')
group by state, queue
