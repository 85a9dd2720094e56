-- Whether there is a database of this name.
select exists (select from pg_database where datname = %(name)s) as is_there
