-- As limits.sql, for a role that may not read at which gates jobs are: what anybody has set, and no counts.
select
  own.name as gate,
  coalesce(own.slots, rule.slots) as slots,
  coalesce(own.every_s, rule.every_s) as every_s,
  case when own.every_s is not null then own.burst else rule.burst end as burst,
  own.keyed,
  own.source,
  null::integer as past,
  null::integer as waiting,
  shut.closed_by,
  extract(epoch from shut.closed_until - statement_timestamp())::float8 as closed_for_s,
  shut.closed_at is not null as closed,
  rule.shares is not null as fair,
  case
    when rule.shares is not null
    then coalesce(own.weight, (rule.shares::json ->> substr(own.name, nullif(strpos(own.name, '='), 0) + 1))::integer, 1)
  end as weight,
  case when shut.closed_at is not null then coalesce(own.closed_why, rule.closed_why) end as closed_why,
  own.half_open_at is not null and shut.closed_at is null as half_open,
  own.trial::text as trial
from {schema}.gate as own
left join {schema}.gate as rule on rule.name = split_part(own.name, '=', 1)
left join lateral (
  select *
  from (values (own.closed_at, own.closed_until, own.closed_by), (rule.closed_at, rule.closed_until, rule.closed_by))
    as one (closed_at, closed_until, closed_by)
  where one.closed_at is not null and coalesce(one.closed_until > statement_timestamp(), true)
  limit 1
) as shut on true
order by own.name
limit %(limit)s
