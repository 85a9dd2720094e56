-- As beat_asks_jobs, without a look at them.
null::float8, null::text[]
