-- Whether the schema and our list of migrations are there; somebody else's table of that name is none.
select exists (
  select
  from pg_catalog.pg_attribute
  join pg_catalog.pg_class on pg_class.oid = attrelid
  where relnamespace = to_regnamespace('{schema}') and relname = 'migration' and attname = 'applied_at'
) as is_there
