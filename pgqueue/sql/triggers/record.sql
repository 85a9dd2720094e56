-- Note what was asked for, and what the server has now.
insert into {schema}.trigger (name, declared_at, table_name, keys, spec, state)
select
  {trigger}, {declared_at}, {table_name}, {keys}::text[], {spec},
  (select jsonb_object_agg(event, jsonb_build_object('body', body, 'rights', rights, 'definition', definition))::text from (
{state}
  ) as found)
on conflict (name) do update set
  made_at = now(), declared_at = excluded.declared_at, table_name = excluded.table_name, keys = excluded.keys, spec = excluded.spec,
  state = excluded.state
