-- Have jobs wait again that were let through gates past which there are more than may be: as many as are too many, the last ones first,
-- and none that runs. Like admit.sql it comes after lock_gates.sql in the same transaction, as a statement of its own: nobody is let
-- through meanwhile, and a worker that claims one of them has its row, which is skipped.
with surplus as (
  select
    held.gate,
    greatest(
      0,
      (
        select count(*)
        from (
          select from {schema}.job where gates[1] = held.gate and gate > 1
          union all
          select from {schema}.job where gates[2] = held.gate and gate > 2
        ) as past
      ) - coalesce(own.slots, rule.slots)
    ) as jobs
  from unnest(current_setting('pgqueue.gates')::text[]) as held (gate)
  left join {schema}.gate as own on own.name = held.gate
  left join {schema}.gate as rule on rule.name = split_part(held.gate, '=', 1)
  where coalesce(own.slots, rule.slots) is not null
),
-- Those that wait at the next gate would start after those that are queued, so they go first.
chosen as materialized (
  select candidate.*
  from surplus
  cross join lateral (
    select *
    from (
      select *
      from (
        select id, state, priority, seq, gate as past, 1::smallint as place
        from {schema}.job
        where gates[1] = surplus.gate and gate > 1 and state in ('waiting', 'queued')
        order by state = 'queued', priority, seq desc
        limit surplus.jobs
        for update skip locked
      ) as of_first
      union all
      select *
      from (
        select id, state, priority, seq, gate as past, 2::smallint as place
        from {schema}.job
        where gates[2] = surplus.gate and gate > 2 and state = 'queued'
        order by priority, seq desc
        limit surplus.jobs
        for update skip locked
      ) as of_second
    ) as past_it
    order by state = 'queued', priority, seq desc
    limit surplus.jobs
  ) as candidate
),
turn as (
  select nextval('{schema}.job_seq') as seq
),
taken as (
  update {schema}.job
  set
    state = 'waiting',
    gate = chosen.place,
    -- A number from when it was let through: below all numbers it comes before those that have waited there since, as it did.
    seq = case when job.state = 'queued' then job.seq - (select seq from turn) else job.seq end
  from chosen
  where job.id = any (array[chosen.id])
  returning job.id, job.gates, chosen.past, chosen.place
),
-- `distinct` wants all of them, so they are written by the time that one who waits at another gate is marked: it may be one of them.
freed as (
  select distinct held.gate
  from taken
  cross join lateral unnest(taken.gates) with ordinality as held (gate, place)
  where held.place > taken.place and held.place < taken.past
),
{poked}
select (select count(*) from taken)::integer as taken, (select count from rung) as bells
