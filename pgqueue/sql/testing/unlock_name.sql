-- Take back what lock_name.sql or databases.sql said.
select pg_advisory_unlock(%(lock_class)s, hashtext(%(name)s))
