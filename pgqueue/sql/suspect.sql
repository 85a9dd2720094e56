-- Note since when these workers' sessions are gone; their next heartbeat clears it.
update {schema}.worker
set suspect_since = now()
from (
  select id from {schema}.worker
  where id = any (%(workers)s::uuid[]) and state <> 'dead' and suspect_since is null
  order by id
  for update skip locked
) as gone
where worker.id = gone.id
