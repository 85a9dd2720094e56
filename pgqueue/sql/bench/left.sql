-- Whether jobs are left.
select exists (select from {schema}.job) as some
