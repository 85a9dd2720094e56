-- Why the log cannot be read on from a place that somebody has kept; null: it can. A transaction may have been under way then whose
-- events lie in the day before. The first day that is there may also be the first that ever was.
with kept as (
  select to_date(substr(min(relname), 7), 'YYYYMMDD') as day
  from pg_inherits
  join pg_class on pg_class.oid = inhrelid
  where inhparent = '{schema}.event'::regclass and relname <> 'event_rest'
),
log as (
  select max(era) as era, (min(began_at) at time zone 'utc')::date as first_day from {schema}.event_era
)
select
  case
    when
      log.era <> %(era)s::integer
      or pg_snapshot_xmax(%(upto)s::pg_snapshot) > pg_snapshot_xmax(pg_current_snapshot())
      then 'it is not of this log, or from before it was restored'
    when
      kept.day > log.first_day
      and kept.day > (to_timestamp(%(at)s::bigint - %(late_s)s::bigint) at time zone 'utc')::date
      then 'some of the events since then are not kept any longer'
  end as why
from kept, log
