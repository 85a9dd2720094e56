-- The next gates of a rule past which there are jobs, in the order of their names: that of the rule itself, then those of its keys.
-- surplus: there are more of these jobs than may be.
with recursive found as (
  select
    least(
      case when %(after)s = '' then %(name)s::text end collate "C",
      (
        select gates[1] from {schema}.job
        where gate > 1 and gates[1] >= %(name)s || '=' and gates[1] < %(name)s || '>' and gates[1] > %(after)s
        order by gates[1]
        limit 1
      ),
      (
        select gates[2] from {schema}.job
        where gate > 2 and gates[2] >= %(name)s || '=' and gates[2] < %(name)s || '>' and gates[2] > %(after)s
        order by gates[2]
        limit 1
      )
    ) as gate,
    1 as number
  union all
  select
    least(
      (
        select gates[1] from {schema}.job
        where gate > 1 and gates[1] >= %(name)s || '=' and gates[1] < %(name)s || '>' and gates[1] > found.gate
        order by gates[1]
        limit 1
      ),
      (
        select gates[2] from {schema}.job
        where gate > 2 and gates[2] >= %(name)s || '=' and gates[2] < %(name)s || '>' and gates[2] > found.gate
        order by gates[2]
        limit 1
      )
    ),
    found.number + 1
  from found
  where found.gate is not null and found.number < %(limit)s
)
select
  found.gate,
  coalesce(
    (
      select count(*)
      from (
        select from {schema}.job where gates[1] = found.gate and gate > 1
        union all
        select from {schema}.job where gates[2] = found.gate and gate > 2
        limit coalesce(own.slots, rule.slots) + 1
      ) as past
    ) > coalesce(own.slots, rule.slots),
    false
  ) as surplus
from found
left join {schema}.gate as own on own.name = found.gate
left join {schema}.gate as rule on rule.name = split_part(found.gate, '=', 1)
where found.gate is not null
order by found.gate
