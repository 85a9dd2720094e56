-- Delete up to `limit` ended jobs in one state.
delete from {schema}.history
where state = %(state)s and id in (
  select id
  from {schema}.history
  where
    state = %(state)s
    and (%(queue)s::text is null or queue = %(queue)s)
    and (%(task)s::text is null or task = %(task)s)
  order by id
  limit %(limit)s
  for update skip locked
)
returning id::text
