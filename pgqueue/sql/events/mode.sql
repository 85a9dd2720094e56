-- Of which kind a subscription is.
select mode from {schema}.subscription where name = %(name)s
