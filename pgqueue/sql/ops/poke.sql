-- There may be room at a gate, or at the keys of a rule: have the first that wait there looked at, and ring. Of a rule a thousand
-- keys; the sweep finds the others.
with recursive busy as (
  select at.place, first.gate, 1 as number
  from (values (1::smallint), (2::smallint)) as at (place)
  cross join lateral (
    select gates[greatest(job.gate, 1::smallint)] as gate
    from {schema}.job
    where
      state = 'waiting' and job.gate is not null and job.gate = at.place
      and gates[greatest(job.gate, 1::smallint)] >= %(name)s || '='
    order by gates[greatest(job.gate, 1::smallint)]
    limit 1
  ) as first
  -- Its keys lie side by side: '>' is the sign after '='.
  where first.gate < %(name)s || '>'
  union all
  select busy.place, following.gate, busy.number + 1
  from busy
  cross join lateral (
    select gates[greatest(job.gate, 1::smallint)] as gate
    from {schema}.job
    where
      state = 'waiting' and job.gate is not null and job.gate = busy.place
      and gates[greatest(job.gate, 1::smallint)] > busy.gate
    order by gates[greatest(job.gate, 1::smallint)]
    limit 1
  ) as following
  where busy.number < 1000 and following.gate < %(name)s || '>'
),
freed as (
  select gate from busy
  union
  select %(name)s
),
{poked}
select (select count(*) from poked)::integer as looked_at, (select count from rung) as bells
