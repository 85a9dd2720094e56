-- Hold the worker's session lock, if no other session does: its loss tells the others within seconds that this process is gone.
select pg_try_advisory_lock(%(lock_class)s, %(lock_key)s) as locked
