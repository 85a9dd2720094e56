-- Which of these running jobs somebody asked to cancel.
select id::text
from {schema}.job
where id = any (%(ids)s::uuid[]) and cancel_requested_at is not null
