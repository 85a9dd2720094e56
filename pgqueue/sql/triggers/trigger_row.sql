-- Fires for each row that changed, after the statement.
create or replace trigger {function} after {event} on {table}
for each row when (({changed}) and (
{when}
)) execute function {schema}.{function}()
