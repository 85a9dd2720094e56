-- Which of these running jobs somebody asked to cancel, and whether they are to be killed where they do not heed it.
select id::text, kill_requested_at is not null as kill
from {schema}.job
where id = any (%(ids)s::uuid[]) and cancel_requested_at is not null
