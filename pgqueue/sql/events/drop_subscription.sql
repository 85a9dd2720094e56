-- Forget a subscription and how far it has come; jobs that were made for it stay.
delete from {schema}.subscription where name = %(name)s returning name
