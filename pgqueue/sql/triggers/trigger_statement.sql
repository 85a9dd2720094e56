-- Fires once for each statement, after it.
create or replace trigger {function} after {event} on {table}
{referencing}
for each statement execute function {schema}.{function}()
