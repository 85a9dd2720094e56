-- Be the only one that changes what schedules are, to the end of the transaction.
select pg_advisory_xact_lock(%(lock_class)s, hashtext('{schema}.schedule')) is not null as locked
