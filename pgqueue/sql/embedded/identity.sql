-- Which data directory answers behind this socket, and whether our database is in it and names have their place.
select
  current_setting('data_directory') as data_directory,
  exists (select from pg_database where datname = 'pgqueue') as has_database,
  exists (
    select
    from pg_db_role_setting
    cross join unnest(setconfig) as setting
    where setdatabase = 0 and setrole = 0 and starts_with(setting, 'search_path=')
  ) as has_path
