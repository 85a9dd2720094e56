-- Begin a transaction in which each statement sees what was committed before it, whatever the database's own setting is.
begin isolation level read committed
