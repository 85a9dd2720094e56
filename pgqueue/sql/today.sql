-- The database's day, in UTC, and the only one who may tidy up now.
select (now() at time zone 'utc')::date, pg_try_advisory_xact_lock(%(lock_class)s, 1)
