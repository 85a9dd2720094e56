-- Which of these running jobs are to be cancelled, and whether they are to be killed if they do not stop.
select id::text, kill_requested_at is not null as kill
from {schema}.job
where id = any (%(ids)s::uuid[]) and cancel_requested_at is not null
