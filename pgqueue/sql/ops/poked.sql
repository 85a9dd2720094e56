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
      select *
      from (
        select id
        from {schema}.job
        where
          state = 'waiting' and gate is not null and gate = 2 and gates[greatest(gate, 1::smallint)] = freed.gate
        order by priority desc, seq
        limit 1
        for update skip locked
      ) as at_second
    ) as first
  ) as seen
  where job.id = any (array[seen.id])
  returning job.queue
),
rung as (
  select count(pg_notify('{channel}', queue)) from (select distinct queue from poked) as freed
  where pg_notification_queue_usage() < 0.5
)
