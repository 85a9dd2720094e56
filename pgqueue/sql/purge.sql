-- Delete up to `limit` jobs in one state; running ones are never touched.
delete from {schema}.job
where id in (
  select id
  from {schema}.job
  where
    state = %(state)s and state <> 'running'
    and (%(queue)s::text is null or queue = %(queue)s)
    and (%(task)s::text is null or task = %(task)s)
  order by id
  limit %(limit)s
  for update skip locked
)
returning id::text
