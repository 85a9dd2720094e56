-- Forget an endpoint, and how far it had come in the log.
with dropped as (
  delete from {schema}.webhook where name = %(name)s returning name
),
unsubscribed as (
  delete from {schema}.subscription where name = %(subscription)s
)
select name from dropped
