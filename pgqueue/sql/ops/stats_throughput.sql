-- What the workers counted in the last hour, by buckets of ten seconds.
select
  at, sum(succeeded)::bigint as succeeded, sum(failed)::bigint as failed, sum(dead)::bigint as dead,
  sum(cancelled)::bigint as cancelled
from {schema}.throughput
where at > now() - interval '1 hour'
group by at
order by at
