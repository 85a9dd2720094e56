-- The gates that anybody has set or at which jobs wait, with how many are past each, and wait there, both counted up to a limit.
with recursive busy as (
  select * from (
    select job.gate as place, gates[greatest(job.gate, 1::smallint)] as gate, 1 as number
    from {schema}.job
    where state = 'waiting' and job.gate is not null
    order by job.gate, gates[greatest(job.gate, 1::smallint)]
    limit 1
  ) as first
  union all
  select following.place, following.gate, busy.number + 1
  from busy
  cross join lateral (
    (
      select job.gate as place, gates[greatest(job.gate, 1::smallint)] as gate
      from {schema}.job
      where
        state = 'waiting' and job.gate is not null and job.gate = busy.place
        and gates[greatest(job.gate, 1::smallint)] > busy.gate
      order by gates[greatest(job.gate, 1::smallint)]
      limit 1
    )
    union all
    (
      select job.gate as place, gates[greatest(job.gate, 1::smallint)] as gate
      from {schema}.job
      where state = 'waiting' and job.gate is not null and job.gate > busy.place
      order by job.gate, gates[greatest(job.gate, 1::smallint)]
      limit 1
    )
    limit 1
  ) as following
  where busy.number < %(limit)s
),
named as (
  select gate from busy
  union
  select * from (select name from {schema}.gate order by name limit %(limit)s) as row_of
)
select
  named.gate,
  coalesce(own.slots, rule.slots) as slots,
  coalesce(own.every_s, rule.every_s) as every_s,
  case when own.every_s is not null then own.burst else rule.burst end as burst,
  coalesce(own.keyed, false) as keyed,
  coalesce(own.source, rule.source) as source,
  (
    select count(*)
    from (
      select from {schema}.job where gates[1] = named.gate and job.gate > 1
      union all
      select from {schema}.job where gates[2] = named.gate and job.gate > 2
      limit %(count_limit)s
    ) as past
  )::integer as past,
  (
    select count(*)
    from (
      select
      from (values (0::smallint), (1::smallint), (2::smallint)) as at (place)
      cross join lateral (
        select
        from {schema}.job
        where
          state = 'waiting' and job.gate is not null and job.gate = at.place
          and gates[greatest(job.gate, 1::smallint)] = named.gate
        limit %(count_limit)s
      ) as one
      limit %(count_limit)s
    ) as waiting
  )::integer as waiting,
  shut.closed_by,
  extract(epoch from shut.closed_until - statement_timestamp())::float8 as closed_for_s,
  shut.closed_at is not null as closed,
  rule.shares is not null as fair,
  case
    when rule.shares is not null
    then coalesce(own.weight, (rule.shares::json ->> substr(named.gate, nullif(strpos(named.gate, '='), 0) + 1))::integer, 1)
  end as weight,
  case when shut.closed_at is not null then coalesce(own.closed_why, rule.closed_why) end as closed_why,
  own.half_open_at is not null and shut.closed_at is null as half_open,
  own.trial::text as trial
from named
left join {schema}.gate as own on own.name = named.gate
left join {schema}.gate as rule on rule.name = split_part(named.gate, '=', 1)
left join lateral (
  select *
  from (values (own.closed_at, own.closed_until, own.closed_by), (rule.closed_at, rule.closed_until, rule.closed_by))
    as one (closed_at, closed_until, closed_by)
  where one.closed_at is not null and coalesce(one.closed_until > statement_timestamp(), true)
  limit 1
) as shut on true
order by named.gate
