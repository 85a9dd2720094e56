-- Which of these jobs have ended, and how; those that are alive come with a null state, unknown ones not at all.
select id::text, state::text, task, result, error
from {schema}.history
where id = any (%(ids)s::uuid[])
union all
select id::text, null, task, null, null
from {schema}.job
where id = any (%(ids)s::uuid[])
