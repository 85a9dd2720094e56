-- The databases of tests: those whose name begins so. Of a process that still tests, the name is locked.
select datname::text as name, pg_try_advisory_lock(%(lock_class)s, hashtext(datname)) as is_free
from pg_database
where starts_with(datname::text, %(prefix)s::text)
