-- Delete large payloads that every listener has read long ago, some at a time.
delete from {schema}.notice
where id in (
  select id
  from {schema}.notice
  where at < now() - %(keep_s)s * interval '1 second'
  order by at
  limit %(at_most)s
)
returning id
