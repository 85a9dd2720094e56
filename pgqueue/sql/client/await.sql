-- Say that a program waits for these jobs, so that their finish rings.
insert into {schema}.awaited (job_id, until)
select id, now() + interval '1 hour'
from unnest(%(ids)s::uuid[]) as wanted (id)
order by id
on conflict (job_id) do update set until = excluded.until
