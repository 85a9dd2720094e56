-- Who asks, whether the schema is there, and whether he may put tables into it or else make it.
select
  current_user::text as who,
  to_regnamespace('{schema}') is not null as is_there,
  coalesce(
    has_schema_privilege(to_regnamespace('{schema}'), 'usage') and has_schema_privilege(to_regnamespace('{schema}'), 'create'),
    has_database_privilege(current_database(), 'create')
  ) as may
