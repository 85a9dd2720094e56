-- The jobs that the database believes this worker is running.
select id::text, claim_token
from {schema}.job
where worker = %(worker)s and state = 'running'
