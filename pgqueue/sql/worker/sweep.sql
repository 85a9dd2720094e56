-- The net below all: gates at which jobs wait though there is room, as where somebody deleted rows by hand. One worker at a time
-- looks, every 15 seconds, or at once if it is `urgent`; each second while a worker of a version before gates lives, which frees places
-- and lets nobody through. Returns them, and where to continue; no row: another worker has looked.
with recursive old as (
  -- They did not know of schedules either.
  select exists (select from {schema}.worker where state = 'alive' and lease_until > now() and schedules is null) as live
),
turn as (
  insert into {schema}.pace as latest (gate, tat)
  values ('', statement_timestamp())
  on conflict (gate) do update
    set tat = excluded.tat
    where
      %(urgent)s or latest.tat > statement_timestamp()
      or latest.tat < statement_timestamp() - case when (select live from old) then interval '1 second' else interval '15 seconds' end
  returning gate
),
-- By skip scan: the next gate at which some wait as their first, then those at which some wait as their second.
busy as (
  select first.place, first.gate, first.queue, 1 as number
  from turn
  cross join lateral (
    (
      select job.gate as place, gates[greatest(job.gate, 1::smallint)] as gate, queue
      from {schema}.job
      where
        state = 'waiting' and job.gate is not null and job.gate = %(place)s::smallint
        and gates[greatest(job.gate, 1::smallint)] > %(after)s
      order by gates[greatest(job.gate, 1::smallint)]
      limit 1
    )
    union all
    (
      select job.gate as place, gates[greatest(job.gate, 1::smallint)] as gate, queue
      from {schema}.job
      where state = 'waiting' and job.gate is not null and job.gate > %(place)s::smallint
      order by job.gate, gates[greatest(job.gate, 1::smallint)]
      limit 1
    )
    limit 1
  ) as first
  union all
  select following.place, following.gate, following.queue, busy.number + 1
  from busy
  cross join lateral (
    (
      select job.gate as place, gates[greatest(job.gate, 1::smallint)] as gate, queue
      from {schema}.job
      where
        state = 'waiting' and job.gate is not null and job.gate = busy.place
        and gates[greatest(job.gate, 1::smallint)] > busy.gate
      order by gates[greatest(job.gate, 1::smallint)]
      limit 1
    )
    union all
    (
      select job.gate as place, gates[greatest(job.gate, 1::smallint)] as gate, queue
      from {schema}.job
      where state = 'waiting' and job.gate is not null and job.gate > busy.place
      order by job.gate, gates[greatest(job.gate, 1::smallint)]
      limit 1
    )
    limit 1
  ) as following
  where busy.number < %(limit)s
),
last as (
  select place, gate from busy where number >= %(limit)s
)
select
  array(
    select distinct busy.gate
    from busy
    left join {schema}.gate as own on own.name = busy.gate
    left join {schema}.gate as rule on rule.name = split_part(busy.gate, '=', 1)
    -- Of keys that take turns, what admit.sql lets through at least: those who hold that much will finish, and look.
    left join lateral (
      select 2 * greatest(1, sum(concurrency)) as window
      from {schema}.worker
      where
        rule.shares is not null and state = 'alive' and lease_until > statement_timestamp()
        and (queues is null or queues @> array[busy.queue])
    ) as places on rule.shares is not null
    cross join lateral (
      select coalesce(
        own.slots, rule.slots,
        coalesce(own.weight, (rule.shares::json ->> substr(busy.gate, strpos(busy.gate, '=') + 1))::integer, 1) * places.window
      ) as slots
    ) as most
    where
      coalesce(own.name, rule.name) is not null
      and coalesce(
        (
          select count(*)
          from (
            select from {schema}.job where gates[1] = busy.gate and job.gate > 1
            union all
            select from {schema}.job where gates[2] = busy.gate and job.gate > 2
            limit most.slots
          ) as past
        ) < most.slots,
        true
      )
      and not exists (
        select
        from (
          values (own.closed_at, own.closed_until, own.half_open_at), (rule.closed_at, rule.closed_until, rule.half_open_at)
        ) as shut (closed_at, closed_until, half_open_at)
        where
          shut.closed_at is not null and coalesce(shut.closed_until > statement_timestamp(), true)
          -- As in admit.sql.
          and (shut.half_open_at is null or shut.closed_at <= statement_timestamp())
      )
  ) as gates,
  exists (select from busy) as waiting,
  (select place from last) as place,
  (select gate from last) as after,
  (select live from old) as old
from turn
