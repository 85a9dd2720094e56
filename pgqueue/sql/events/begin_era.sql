-- Begin another era if the log was restored from a dump of another cluster: before the first look at it, and the first tick.
select {schema}.begin_era(%(lock_class)s) as began
