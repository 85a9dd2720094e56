-- As beat_asks_jobs, without a look at them.
null::float8 as next_due_s, null::text[] as orphaning, null::float8 as schedule_due_s
