-- Whether names without a schema are looked for elsewhere than in public: this database says so, or a role has a schema.
select
  exists (
    select
    from pg_db_role_setting
    cross join unnest(setconfig) as setting
    where setdatabase = (select oid from pg_database where datname = current_database()) and setrole = 0
      and starts_with(setting, 'search_path=')
  ) as is_said,
  exists (select from pg_namespace join pg_roles on rolname = nspname where rolname <> 'pgqueue') as is_of_a_role
