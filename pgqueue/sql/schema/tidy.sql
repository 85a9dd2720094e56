-- Make the coming days' partitions and drop those past their retention, unless another session is doing so.
select {schema}.tidy(%(keep_succeeded_days)s, %(keep_dead_days)s)
where pg_try_advisory_xact_lock(%(lock_class)s, 1)
