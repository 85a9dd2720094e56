-- Sign by a new secret first, and for a while by the last one too; not where the code says which.
update {schema}.webhook
set secrets = array[%(secret)s::text, secrets[1]], old_until = now() + %(keep_s)s * interval '1 second'
where name = %(name)s and declared_at is null
returning name
