-- Which of these jobs have not ended.
select id::text from {schema}.job where id = any (%(ids)s::uuid[])
