-- Which data directory answers behind this socket, and whether our database is in it.
select
  current_setting('data_directory') as data_directory,
  exists (select from pg_database where datname = 'pgqueue') as has_database
