-- Where Citus is, make tables of this node alone, for this transaction; its own way would spread each schema and each type.
do $$
declare
  coordinator  boolean;
  distributed  boolean;
begin
  if not exists (select from pg_catalog.pg_extension where extname = 'citus') then
    return;
  end if;
  execute 'select pg_catalog.citus_is_coordinator()' into coordinator;
  execute 'select exists (select from pg_catalog.citus_schemas where schema_name = to_regnamespace($1))'
    into distributed using '{schema}';
  if distributed then
    raise invalid_schema_definition using message = format(
      'the schema %s is distributed by Citus, and pgqueue''s tables must lie together on one node: take another schema'
      ' (PGQUEUE_SCHEMA), or run `select citus_schema_undistribute(%L)`', '{schema}', '{schema}'
    );
  end if;
  perform set_config('citus.enable_schema_based_sharding', 'off', true);
  -- Another node than the coordinator would refuse to create types and functions that all nodes need.
  if not coordinator then
    perform set_config('citus.enable_ddl_propagation', 'off', true);
  end if;
end
$$;
