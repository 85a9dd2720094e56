-- The triggers that were made, by name.
select name, made_at, declared_at, table_name, keys, spec, state from {schema}.trigger order by name
