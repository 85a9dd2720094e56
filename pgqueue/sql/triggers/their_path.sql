-- Find tables as the database's users do, until the end of the transaction or until pinned_path.sql.
select set_config('search_path', (select reset_val from pg_settings where name = 'search_path'), true)
