-- It writes with the rights of its owner, so that those who write to the table need none on our tables.
create or replace function {schema}.{function}() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $pgqueue${body}$pgqueue$
