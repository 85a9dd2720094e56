-- One migration at a time per schema, until the end of the transaction.
select pg_advisory_xact_lock(%(lock_class)s, hashtext('{schema}'))
