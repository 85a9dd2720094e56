-- The newest events of some types, by transaction: what committed late may stand among them. Those of earlier eras are older.
select id::text, at, type, nullif(key, '') as key, payload, nullif(headers, '') as headers
from (
  (
    select *
    from {schema}.event
    where
      {schema}.event_matches(type, %(types)s::text[])
      and at >= coalesce(%(since)s::timestamptz, '-infinity')
      and era = (select max(era) from {schema}.event_era)
    order by xid desc, seq desc
    limit %(limit)s
  )
  union all
  (
    select *
    from {schema}.event
    where
      {schema}.event_matches(type, %(types)s::text[])
      and at >= coalesce(%(since)s::timestamptz, '-infinity')
      and era < (select max(era) from {schema}.event_era)
      -- Else the whole log would be looked through for none.
      and (select count(*) from {schema}.event_era) > 1
    order by xid desc, seq desc
    limit %(limit)s
  )
) as event
order by era desc, xid desc, seq desc
limit %(limit)s
