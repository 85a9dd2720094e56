-- The job that a key's period has.
select job_id::text
from {schema}.period
where key = %(key)s and until > statement_timestamp()
