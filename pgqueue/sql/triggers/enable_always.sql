-- Fires in sessions that replicate, too.
alter table {table} enable always trigger {function}
