-- Fires unless the session replicates.
alter table {table} enable trigger {function}
