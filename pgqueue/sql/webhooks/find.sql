-- What a delivery needs to know of its endpoint.
select
  url,
  case when old_until < now() then secrets[1:1] else secrets end as secrets,
  allow_private,
  disabled_at is not null as disabled,
  why
from {schema}.webhook
where name = %(name)s
