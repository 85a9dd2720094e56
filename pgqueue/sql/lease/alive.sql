-- How many workers hold a lease that has not run out.
select count(*)::integer
from {schema}.worker
where state <> 'dead' and lease_until > now()
