-- What people did to one job, first to last.
select at, who, action, state::text
from {schema}.audit
where job_id = %(id)s
order by at
