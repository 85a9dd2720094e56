-- Note since when these workers' sessions are gone; their next heartbeat clears it.
update {schema}.worker
set
  suspect_since = now(),
  -- Of the same length as ever, if the clock was set back since it was renewed.
  lease_until = least(lease_until, now() + (lease_until - heartbeat_at)),
  heartbeat_at = least(heartbeat_at, now())
from (
  select id from {schema}.worker
  where
    id = any (%(workers)s::uuid[]) and state <> 'dead'
    and (suspect_since is null or suspect_since > now() or heartbeat_at > now())
  order by id
  for update skip locked
) as gone
where worker.id = gone.id
