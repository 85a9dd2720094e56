-- Make the coming days of the log, and drop those that are over, unless another session is doing so: see schema/tidy.sql.
select {schema}.tidy_events(%(keep_days)s, %(keep_days_at_most)s)
where pg_try_advisory_xact_lock(%(lock_class)s, 1)
