-- The databases that people can connect to; -2 is one whose removal was cut short.
select datname::text from pg_database where datallowconn and not datistemplate and datconnlimit <> -2
