-- Let no dispatcher move a place, and nobody make a tick, to the end of the transaction.
select
  pg_advisory_xact_lock(%(lock_class)s, hashtext('{schema}.dispatch')),
  pg_advisory_xact_lock(%(lock_class)s, hashtext('{schema}.tick'))
