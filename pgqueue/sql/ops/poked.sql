-- Have the first that waits at each of the gates in `freed` looked at, and ring: there may be room.
poked as (
  update {schema}.job
  set gate = 0
  from (
    select first.id
    from freed
    cross join lateral (
      select *
      from (
        select id
        from {schema}.job
        where
          state = 'waiting' and gate is not null and gate = 1 and gates[greatest(gate, 1::smallint)] = freed.gate
        order by priority desc, seq
        limit 1
        for update skip locked
      ) as at_first
      union all
      select id
      from (
        select id, gates[1] as first_gate
        from {schema}.job
        where
          state = 'waiting' and gate is not null and gate = 2 and gates[greatest(gate, 1::smallint)] = freed.gate
        order by priority desc, seq
        limit 1
        for update skip locked
      ) as at_second
      -- It gives up its place at the first gate to be looked at. Where that keeps an order, those behind it would pass: the sweep finds it.
      where not exists (select from {schema}.gate as rule where rule.name = split_part(at_second.first_gate, '=', 1) and rule.keeps)
    ) as first
  ) as seen
  where job.id = any (array[seen.id])
  returning job.queue
),
rung as (
  select count(pg_notify('{channel}', queue)) from (select distinct queue from poked) as freed
  where pg_notification_queue_usage() < 0.5
)
