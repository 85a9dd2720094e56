-- Say that the database of this name is in use, until this session ends. Waits for another that says so.
select pg_advisory_lock(%(lock_class)s, hashtext(%(name)s))
