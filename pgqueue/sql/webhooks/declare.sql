-- Make an endpoint of the code, or bring it up to date; one that was disabled stays so.
insert into {schema}.webhook (name, url, types, secrets, allow_private, declared_at)
values (%(name)s, %(url)s, %(types)s::text[], %(secrets)s::text[], %(allow_private)s, now())
on conflict (name) do update
  set
    url = excluded.url, types = excluded.types, secrets = excluded.secrets, allow_private = excluded.allow_private,
    declared_at = excluded.declared_at, old_until = null
