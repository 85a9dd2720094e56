-- What a table is: its names, its primary key, its columns, and what decides which kind of trigger sees all of its changes.
select
  format('%%I.%%I', pg_namespace.nspname, pg_class.relname) as qualified,
  nspname::text as schema,
  relname::text as name,
  -- Users' tables may be in our schema too: where a role is called like the schema, that is where its tables go.
  pg_namespace.oid in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
    or pg_namespace.oid = to_regnamespace('{schema}') and exists (
      select
      from pg_class as whole
      where whole.oid = coalesce(pg_partition_root(pg_class.oid)::oid, pg_class.oid) and whole.relname = any (array[
        'migration', 'job', 'history', 'attempt', 'worker', 'queue', 'throughput', 'awaited', 'audit', 'event', 'event_era', 'tick',
        'subscription', 'place', 'event_reader', 'notice', 'trigger', 'webhook', 'schedule', 'fired', 'declared', 'gate', 'pace',
        'period', 'breaker'
      ])
    ) as is_ours,
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
