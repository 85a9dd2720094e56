-- Delete periods that are over, some at a time, and none that a call uses again at this moment.
delete from {schema}.period
where key in (
  select key
  from {schema}.period
  where until <= now()
  order by until
  limit %(at_most)s
  for update skip locked
)
returning key
