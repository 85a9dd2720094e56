-- The live jobs that hold these unique keys.
select unique_key, id::text
from {schema}.job
where unique_key = any (%(keys)s::text[])
