-- Forget a trigger that was dropped.
delete from {schema}.trigger where name = {trigger}
