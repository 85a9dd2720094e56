-- Make an endpoint, unless there is one of this name.
insert into {schema}.webhook (name, url, types, secrets, allow_private)
values (%(name)s, %(url)s, %(types)s::text[], %(secrets)s::text[], %(allow_private)s)
on conflict (name) do nothing
returning name
