-- Of what live workers declare, what counts for each name: the one that was first seen last.
select distinct on (declared.name) declared.name, declared.fingerprint, declared.spec
from {schema}.declared
where
  fingerprint in (
    select unnest(schedules) from {schema}.worker where state <> 'dead' and lease_until > now() and schedules is not null
  )
order by declared.name, declared.first_seen_at desc
