-- The large payloads with these ids that are still kept.
select id::text, payload
from {schema}.notice
where id = any (%(ids)s::uuid[])
