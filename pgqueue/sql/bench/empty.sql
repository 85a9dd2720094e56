-- Forget all jobs.
truncate {schema}.job, {schema}.history
