-- The daily partitions there are.
select parent.relname::text as parent, child.relname::text as partition
from pg_inherits
join pg_class as parent on parent.oid = inhparent
join pg_class as child on child.oid = inhrelid
where
  parent.relnamespace = '{schema}'::regnamespace
  and parent.relname in ('history_succeeded', 'history_ended', 'attempt')
