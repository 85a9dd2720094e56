-- With the trigger that calls it.
drop function if exists {schema}.{function}() cascade
