-- The jobs whose id ends like this, among those that a person has just seen: running ones and recent failures.
select distinct id::text
from (
  (select job_id as id from {schema}.attempt order by failed_at desc limit 10000)
  union all
  (select id from {schema}.job where state = 'running' order by worker limit 10000)
) as seen
where id::text like '%%' || %(ending)s::text
limit 2
