-- Which of these jobs have not ended, and which of them wait for their turn.
select id::text, coalesce(gate <= 1, false) as waits from {schema}.job where id = any (%(ids)s::uuid[])
