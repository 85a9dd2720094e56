-- What a table is: its names, its primary key, its columns, and what decides which kind of trigger sees all of its changes.
select
  format('%%I.%%I', pg_namespace.nspname, pg_class.relname) as qualified,
  nspname::text as schema,
  relname::text as name,
  relkind::text as kind,
  relpersistence = 't' as is_temporary,
  relispartition or exists (select from pg_inherits where inhrelid = pg_class.oid) as is_part,
  relkind = 'r' and exists (select from pg_inherits where inhparent = pg_class.oid) as has_heirs,
  coalesce((
    select array_agg(attname::text order by place)
    from pg_index
    cross join unnest(indkey::smallint[]) with ordinality as part (number, place)
    join pg_attribute on attrelid = indrelid and attnum = number
    where indrelid = pg_class.oid and indisprimary and place <= indnkeyatts
  ), '{}') as keys,
  (
    select array_agg(attname::text order by attnum)
    from pg_attribute
    where attrelid = pg_class.oid and attnum > 0 and not attisdropped
  ) as columns
from pg_class
join pg_namespace on pg_namespace.oid = relnamespace
where pg_class.oid = to_regclass(%(table)s)
