-- The numbers that jobs returned, and when each was due.
select id::text, result::float8, run_at
from {schema}.history
where id = any (%(ids)s::uuid[])
