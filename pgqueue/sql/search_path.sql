-- Let no name of ours find anything that others made, whatever a role or a database sets; not through a pooler, whose sessions others use too.
select pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', false)
where pg_catalog.pg_backend_pid() operator(pg_catalog.=) %(backend_pid)s
