-- What the workers counted in the last hour, by buckets of ten seconds.
select at, sum(succeeded)::bigint, sum(failed)::bigint, sum(dead)::bigint, sum(cancelled)::bigint
from {schema}.throughput
where at > now() - interval '1 hour'
group by at
order by at
