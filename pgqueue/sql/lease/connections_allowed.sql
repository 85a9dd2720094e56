-- How many connections the server grants to roles that are not superusers.
select current_setting('max_connections')::integer - current_setting('superuser_reserved_connections')::integer as connections
