-- Find nothing that others made.
select set_config('search_path', 'pg_catalog, pg_temp', true)
