-- Have jobs that no worker has claimed yet wait again, at the gates that lock_gates.sql has locked in this transaction and that their
-- breakers have closed. Under the lock nobody is let through meanwhile. They keep their places in the order.
with closed as (
  select gate.name
  from unnest(current_setting('pgqueue.gates')::text[]) as held (name)
  join {schema}.gate on gate.name = any (array[held.name])
  where half_open_at is not null and closed_at <= statement_timestamp() and closed_until > statement_timestamp()
),
waits as (
  select past.id, past.place
  from closed
  cross join lateral (
    select *
    from (
      select id, 1 as place
      from {schema}.job
      where gates[1] = closed.name and gate > 1 and state in ('queued', 'waiting')
      limit %(limit)s
      for update skip locked
    ) as first
    union all
    select *
    from (
      select id, 2 as place
      from {schema}.job
      where gates[2] = closed.name and gate > 2 and state in ('queued', 'waiting')
      limit %(limit)s
      for update skip locked
    ) as second
  ) as past
),
recalled as (
  update {schema}.job
  set state = 'waiting', gate = waits.place
  from waits
  where job.id = any (array[waits.id])  -- see steady_plans.sql
  returning waits.place, gates
)
select
  (select count(*) from recalled)::integer as jobs,
  -- The gate behind, at which they had a place.
  array(select distinct gates[2] from recalled where place = 1 and gates[2] is not null) as gates
