-- The current role, whether the schema exists, and whether the role may create tables in it or else create it.
select
  current_user::text as who,
  to_regnamespace('{schema}') is not null as is_there,
  coalesce(
    has_schema_privilege(to_regnamespace('{schema}'), 'usage') and has_schema_privilege(to_regnamespace('{schema}'), 'create'),
    has_database_privilege(current_database(), 'create')
  ) as may
