-- Forget a schedule; jobs that it made stay.
delete from {schema}.schedule where name = %(name)s
