-- Remember what the code of a worker declares, and when it was first seen.
insert into {schema}.declared (name, fingerprint, spec)
select name, fingerprint, spec
from json_to_recordset(%(rows)s::json) as row (name text, fingerprint text, spec text)
order by name
on conflict (name, fingerprint) do update set seen_at = now()
