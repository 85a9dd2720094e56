-- Make one job due now, whatever it waits for; says where the next claim finds it. No row: it runs, or has ended.
update {schema}.job
set
  run_at = case when state = 'scheduled' then least(run_at, clock_timestamp()) else run_at end,
  seq = case when state = 'scheduled' then nextval('{schema}.job_seq') else seq end,
  gate = case when gates is null then gate else cardinality(gates) + 1 end,
  state = 'queued'
where id = %(id)s and (state in ('scheduled', 'queued') or state = 'waiting' and gate is not null)
returning queue, priority, seq
