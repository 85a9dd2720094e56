-- It writes with the rights of its owner, so that those who write to the table need none on our tables.
-- Its plan is kept for the session. Made for one row, it would join thousands by a nested loop, without an index; made for many
-- rows, it would be compiled again for each single one.
create or replace function {schema}.{function}() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_nestloop = off
set jit = off
as $pgqueue${body}$pgqueue$
