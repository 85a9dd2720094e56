-- How many workers hold a lease that has not run out.
select count(*)::integer as workers
from {schema}.worker
where state <> 'dead' and lease_until > now()
