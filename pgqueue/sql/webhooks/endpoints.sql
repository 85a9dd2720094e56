-- All endpoints, without what is secret.
select name, site, types, allow_private, created_at, declared_at is not null as in_code, disabled_at, why
from {schema}.webhook
order by name
