-- Forget one day.
drop table if exists {schema}.{partition}
