-- Whether the schema and our list of migrations are there; a table of that name that is not ours does not count.
select exists (
  select
  from pg_catalog.pg_attribute
  join pg_catalog.pg_class on pg_class.oid = attrelid
  where relnamespace = to_regnamespace('{schema}') and relname = 'migration' and attname = 'applied_at'
) as is_there
