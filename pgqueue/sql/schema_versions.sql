-- The migrations that were applied.
select version from {schema}.migration order by version
