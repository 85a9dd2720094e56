-- Gates at which jobs wait in vain, among the first that have any: (what, name, jobs, capped, seconds, who). name: of the gate, or of its
-- rule where that is the reason.
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
found as (
  select
    busy.place, busy.gate, shut.seconds, shut.who,
    case
      when coalesce(own.name, rule.name) is null then 'unknown'
      when shut.name is not null then 'closed'
      when coalesce(own.slots, rule.slots) = 0 then 'none'
    end as what,
    case
      when shut.name is not null then shut.name
      when own.slots = 0 then own.name
      else split_part(busy.gate, '=', 1)
    end as name
  from busy
  left join {schema}.gate as own on own.name = busy.gate
  left join {schema}.gate as rule on rule.name = split_part(busy.gate, '=', 1)
  left join lateral (
    select name, extract(epoch from now() - closed_at)::float8 as seconds, closed_by as who
    from (
      values
        (own.name, own.closed_at, own.closed_until, own.closed_by),
        (rule.name, rule.closed_at, rule.closed_until, rule.closed_by)
    ) as one (name, closed_at, closed_until, closed_by)
    where closed_at is not null and coalesce(closed_until > now(), true)
    limit 1
  ) as shut on true
)
select
  what, name, sum(waiting.jobs)::integer as jobs, bool_or(waiting.jobs >= %(count_limit)s) as capped, max(seconds) as seconds,
  max(who) as who
from found
cross join lateral (
  select count(*) as jobs
  from (
    select
    from {schema}.job
    where
      state = 'waiting' and job.gate is not null and job.gate = found.place
      and gates[greatest(job.gate, 1::smallint)] = found.gate
    limit %(count_limit)s
  ) as one
) as waiting
where what is not null and (what <> 'closed' or seconds > %(closed_s)s)
group by what, name
order by 1, 3 desc
limit 20
