-- How many connections the server grants to those who are no superusers.
select current_setting('max_connections')::integer - current_setting('superuser_reserved_connections')::integer as connections
