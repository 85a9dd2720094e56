-- Say why no jobs are made for these subscriptions; dispatch.sql takes it back when it makes some again.
update {schema}.place
set error = %(why)s
where subscription = any (%(names)s::text[]) and error is distinct from %(why)s
